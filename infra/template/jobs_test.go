package template_test

import (
	"parley/infra/lambda/config"
)

// doers are the functions that do jobs, and the queue of each.
var doers = map[string]string{config.Worker: "Jobs", config.Replayer: "Replays"}

// checkJobs: who does jobs gets them from its queue, a step at a time and not too many at once;
// what fails comes again, before the job counts as lost, and what kills it ends somewhere. And a
// rebuild waits until no batch can be under way that does not know of it.
func checkJobs(b both) []string {
	var c complaints
	mappings := resources(b.region, "AWS::Lambda::EventSourceMapping")
	for name, queue := range doers {
		found := 0
		for id, r := range mappings {
			p := r["Properties"].(tree)
			if ref(p["FunctionName"]) != function(b, name) {
				continue
			}
			found++
			c.equal(id+": EventSourceArn", ref(p["EventSourceArn"]), queue)
			c.equal(id+": BatchSize", p["BatchSize"], 1)
			c.equal(id+": FunctionResponseTypes", p["FunctionResponseTypes"], []any{"ReportBatchItemFailures"})
			c.between(id+": MaximumConcurrency", at(p, "ScalingConfig", "MaximumConcurrency"), 2, 10)
		}
		c.equal("the number of mappings for "+name, found, 1)
		p := properties(b.region, queue)
		timeout, _ := properties(b.region, function(b, name))["Timeout"].(int)
		c.between(name+": Timeout", timeout, stepSeconds+5, 60)
		c.between(queue+": VisibilityTimeout", p["VisibilityTimeout"], 2*timeout, int(config.Silent.Seconds())-10)
		dead := ref(at(p, "RedrivePolicy", "deadLetterTargetArn"))
		c.equal(queue+": dead letters go to", dead, queue+"Dead")
		c.between(queue+": maxReceiveCount", at(p, "RedrivePolicy", "maxReceiveCount"), maxTries+1, 100)
		c.between(dead+": MessageRetentionPeriod", properties(b.region, dead)["MessageRetentionPeriod"], 14*24*3600, 14*24*3600)
	}
	for name, queue := range map[string]string{"PARLEY_JOB_QUEUE": "Jobs", "PARLEY_REPLAY_QUEUE": "Replays"} {
		for _, f := range config.Functions {
			if v := at(properties(b.region, function(b, f)), "Environment", "Variables", name); v != nil {
				c.equal(f+": "+name, ref(v), queue)
			}
		}
	}
	batch, _ := properties(b.region, function(b, config.Stream))["Timeout"].(int)
	c.unless(batch+1 < int(config.DefaultGrace.Seconds()), "stream has %d s for a batch, and a rebuild waits for %v", batch, config.DefaultGrace)
	return c
}

// stepSeconds bound a step of a job and what it takes to note it, and maxTries is how often in a
// row it may fail: the runner's, in functions/operate.
const (
	stepSeconds = 15
	maxTries    = 10
)
