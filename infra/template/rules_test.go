package template_test

import (
	"fmt"
	"testing"
)

// rule is something that must hold of the templates, and that cfn-lint does not know.
type rule struct {
	name  string
	check func(both) []string // what is wrong
}

// rules are all of them, by subject in the files of this package.
func rules() []rule {
	return []rule{
		{"log", checkLog},
		{"replicas", checkReplicas},
		{"secret", checkSecret},
		{"root", checkRoot},
		{"views", checkViews},
		{"connections", checkConnections},
		{"functions", checkFunctions},
		{"variables", checkVariables},
		{"rights", checkRights},
		{"routes", checkRoutes},
		{"timeouts", checkTimeouts},
		{"authorizer", checkAuthorizer},
		{"sockets", checkSockets},
		{"trigger", checkTrigger},
		{"failures", checkFailures},
		{"alarms", checkAlarms},
		{"patterns", checkPatterns},
		{"queues", checkQueues},
		{"jobs", checkJobs},
		{"schedules", checkSchedules},
		{"domain", checkDomain},
		{"logs", checkLogs},
		{"names", checkNames},
		{"parameters", checkParameters},
		{"dashboard", checkDashboard},
	}
}

// complaints gathers what is wrong.
type complaints []string

// unless adds a complaint unless ok.
func (c *complaints) unless(ok bool, format string, args ...any) {
	if !ok {
		*c = append(*c, fmt.Sprintf(format, args...))
	}
}

// equal complains of a value that is not the one wanted.
func (c *complaints) equal(what string, got, want any) {
	c.unless(fmt.Sprint(got) == fmt.Sprint(want), "%s is %v, want %v", what, got, want)
}

func TestRules(t *testing.T) {
	b := read(t)
	for _, r := range rules() {
		for _, wrong := range r.check(b) {
			t.Errorf("%s: %s", r.name, wrong)
		}
	}
}
