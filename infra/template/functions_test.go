package template_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/functions/stream"
	"parley/infra/lambda/config"
)

// function returns the logical id of a function's resource, "" if there is none.
func function(b both, name string) string {
	for id, r := range resources(b.region, "AWS::Lambda::Function") {
		if text(r, "Properties", "Handler") == name {
			return id
		}
	}
	return ""
}

// TestFunctions: every function of the binary has a resource, with a role and a log group of its own,
// and there is no other role.
func TestFunctions(t *testing.T) {
	b, c := read(t), check{t}
	own := map[string]bool{}
	for _, name := range config.Functions {
		p := properties(b.region, function(b, name))
		if c.unless(p != nil, "%s has no resource", name); p == nil {
			continue
		}
		role, log := ref(p["Role"]), ref(at(p, "LoggingConfig", "LogGroup"))
		c.unless(text(b.region, "Resources", role, "Type") == "AWS::IAM::Role" && !own[role], "%s has no role of its own", name)
		c.unless(text(b.region, "Resources", log, "Type") == "AWS::Logs::LogGroup" && !own[log], "%s has no log group of its own", name)
		own[role], own[log] = true, true
		c.equal(name+": Architectures", p["Architectures"], []any{"arm64"}) // what deploy builds
		c.unless(p["Timeout"] != nil && p["MemorySize"] != nil, "%s has no limits", name)
	}
	c.equal("the number of functions", len(resources(b.region, "AWS::Lambda::Function")), len(config.Functions))
	c.equal("the number of roles", len(resources(b.region, "AWS::IAM::Role")), len(config.Functions))
}

// TestVariables: every variable without a default that a function reads is set, and no other.
func TestVariables(t *testing.T) {
	b, c := read(t), check{t}
	for _, name := range config.Functions {
		variables, _ := at(properties(b.region, function(b, name)), "Environment", "Variables").(tree)
		reads := map[string]bool{}
		for _, v := range config.Variables {
			if v.Name == "AWS_REGION" || !slices.Contains(v.Functions, name) { // that one Lambda sets
				continue
			}
			reads[v.Name] = true
			c.unless(variables[v.Name] != nil || v.Default != "", "%s is not given %s", name, v.Name)
		}
		for variable := range variables {
			c.unless(reads[variable], "%s does not read %s", name, variable)
		}
		if reads["PARLEY_BEATS"] { // a check must expect what is appended
			c.equal(name+"'s streams of heartbeats", fmt.Sprint(variables["PARLEY_BEATS"]), fmt.Sprint(tree{"Ref": "Beats"}))
		}
	}
}

// eventsARN is the ARN of the event table, which is in another stack, as policies have it.
const eventsARN = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/parley-${Stage}-events"

// keysARN is the ARN of the table of users' keys, and rootARN that of the key that wraps them.
const (
	keysARN = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/parley-${Stage}-keys"
	rootARN = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/${KeyId}"
)

// socketsARN is the ARN of the stage of the WebSocket API.
const socketsARN = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${LiveApi}/live"

// others are the rights of functions beside those of [config.Rights] on tables, as "action on what".
var others = map[string][]string{
	config.Command: {"kms:Decrypt on root", "kms:Encrypt on root"},
	config.Query:   {"kms:Decrypt on root"},
	config.Live:    append(onSockets, "kms:Decrypt on root", "kms:Encrypt on root"),
	config.Stream: slices.Concat(onSockets, []string{
		"kms:Decrypt on root",
		"dynamodb:DescribeStream on StreamArn", "dynamodb:GetRecords on StreamArn", "dynamodb:GetShardIterator on StreamArn", "dynamodb:ListStreams on *",
		"events:DescribeEventBus on Bus", "events:PutEvents on Bus", "s3:ListBucket on Failures", "s3:PutObject on ${Failures.Arn}/*",
	}),
	config.Operate: {"kms:Decrypt on root", "kms:Encrypt on root", "lambda:InvokeFunction on Stream", "sqs:SendMessage on Jobs", "sqs:SendMessage on Replays"},
	config.Worker:  onQueue("Jobs"),
	config.Replayer: append(onQueue("Replays"), "kms:Decrypt on root",
		"events:DescribeEventBus on Bus", "events:PutEvents on Bus if StringEquals events:source "+stream.ReplaySource),
}

// onSockets are the rights to post to sockets of the stage, and to close them.
var onSockets = []string{
	"execute-api:ManageConnections on " + socketsARN + "/DELETE/@connections/*",
	"execute-api:ManageConnections on " + socketsARN + "/POST/@connections/*",
}

// onQueue are the rights of a function on its queue of jobs: to take messages and send the next.
func onQueue(queue string) []string {
	return []string{"sqs:DeleteMessage on " + queue, "sqs:GetQueueAttributes on " + queue, "sqs:ReceiveMessage on " + queue, "sqs:SendMessage on " + queue}
}

// rights returns exactly what a function may do, as "action on what".
func rights(b both, name string) []string {
	log := function(b, name) + "Logs"
	all := append([]string{"logs:CreateLogStream on " + log, "logs:PutLogEvents on " + log}, others[name]...)
	for _, r := range config.Rights[name] {
		all = append(all, "dynamodb:"+r.Operation+" on "+r.Table+keys(r))
	}
	slices.Sort(all)
	return all
}

// keys returns the condition of a right that is limited to some partitions.
func keys(r config.Right) string {
	if r.Keys == nil {
		return ""
	}
	operator, patterns := "StringEquals", make([]string, len(r.Keys))
	for i, key := range r.Keys {
		if patterns[i] = key; strings.Contains(key, config.OwnRegion) {
			patterns[i] = fmt.Sprint(tree{"Fn::Sub": key})
		}
		if strings.Contains(key, "*") {
			operator = "StringLike"
		}
	}
	return fmt.Sprint(" if ForAllValues:", operator, " dynamodb:LeadingKeys ", patterns)
}

// TestRights: every function may do what is in the table and no more. Nobody may change or delete an
// event; only the stream function may destroy users' keys; the worker, which reads the whole log, may use
// none; and only the stream function may publish what ordinary subscribers get.
func TestRights(t *testing.T) {
	b, c := read(t), check{t}
	for _, name := range config.Functions {
		id := function(b, name)
		role := properties(b.region, ref(properties(b.region, id)["Role"]))
		for _, more := range []string{"ManagedPolicyArns", "PermissionsBoundary"} {
			c.unless(role[more] == nil, "%s has %s", name, more)
		}
		got := granted(role)
		want := rights(b, name)
		c.unless(slices.Equal(got, want), "%s may\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, kind := range []string{"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy", "AWS::IAM::UserPolicy"} {
		c.unless(len(resources(b.region, kind)) == 0, "there are policies beside the roles': %s", kind)
	}
	for id, r := range resources(b.region, "AWS::IAM::Role") {
		for _, grant := range granted(r["Properties"].(tree)) {
			action, on, _ := strings.Cut(grant, " on ")
			c.unless(!strings.Contains(action, "*"), "%s: %s", id, grant)
			if strings.HasPrefix(on, "events") || on == "*" || on == "Views" {
				for _, never := range []string{"Update", "Delete", "BatchWrite", "PartiQL", "Transact"} {
					deletes := never == "Delete" && on == "Views" && id == "WorkerRole" // of generations that are not read
					c.unless(deletes || !strings.Contains(action, never), "%s: %s", id, grant)
				}
			}
			if on == "keys" {
				c.unless(id == "StreamRole" || !strings.Contains(action, "Delete"), "%s: %s", id, grant)
				c.unless(!strings.Contains(action, "Update") && !strings.Contains(action, "BatchWrite"), "%s: %s", id, grant)
			}
			c.unless(id != "WorkerRole" || on != "keys" && on != "root", "%s: %s", id, grant)
			c.unless(on == "root" || !strings.HasPrefix(action, "kms:"), "%s: %s", id, grant)
			c.unless(action != "events:PutEvents" || id == "StreamRole" || strings.HasSuffix(on, "events:source "+stream.ReplaySource), "%s: %s", id, grant)
		}
	}
}

// granted returns what a role's policies allow, sorted, as "action on resource if condition".
func granted(role tree) []string {
	var all []string
	for _, policy := range items(role, "Policies") {
		for _, s := range items(policy, "PolicyDocument", "Statement") {
			if text(s, "Effect") != "Allow" || at(s, "NotAction") != nil || at(s, "NotResource") != nil {
				all = append(all, fmt.Sprint("a statement of another kind: ", s))
			}
			for _, action := range items(s, "Action") {
				for _, on := range items(s, "Resource") {
					all = append(all, fmt.Sprint(action)+" on "+what(on)+condition(s))
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// what returns the name of the resource of a statement.
func what(on any) string {
	if id := ref(on); id != "" {
		return id
	}
	if sub := text(on, "Fn::Sub"); sub != "" {
		return strings.NewReplacer(eventsARN, config.Events, keysARN, config.Keys, rootARN, "root").Replace(sub)
	}
	return fmt.Sprint(on)
}

func condition(statement any) string {
	var all string
	conditions, _ := at(statement, "Condition").(tree)
	for _, operator := range sorted(conditions) {
		for key, values := range conditions[operator].(tree) {
			all += " if " + operator + " " + key + " " + fmt.Sprint(values)
		}
	}
	return all
}

// TestSchedules: a schedule invokes beat each minute, and the functions of jobs, to find stalled ones.
func TestSchedules(t *testing.T) {
	b, c := read(t), check{t}
	for _, name := range []string{config.Beat, config.Worker, config.Replayer} {
		c.schedule(b, name, function(b, name))
	}
}

func (c check) schedule(b both, name, id string) {
	found := false
	for rule, r := range resources(b.region, "AWS::Events::Rule") {
		if !slices.ContainsFunc(items(r, "Properties", "Targets"), func(target any) bool { return ref(at(target, "Arn")) == id }) {
			continue
		}
		found = true
		c.equal(rule+": ScheduleExpression", at(r, "Properties", "ScheduleExpression"), "rate(1 minute)")
		c.equal(rule+": State", at(r, "Properties", "State"), "ENABLED")
		allowed := false
		for _, p := range resources(b.region, "AWS::Lambda::Permission") {
			allowed = allowed || ref(at(p, "Properties", "FunctionName")) == id && ref(at(p, "Properties", "SourceArn")) == rule && text(p, "Properties", "Principal") == "events.amazonaws.com"
		}
		c.unless(allowed, "%s may not invoke %s", rule, id)
	}
	c.unless(found, "nothing invokes %s", name)
}

// jobQueues are the functions that run jobs, and the queue of each.
var jobQueues = map[string]string{config.Worker: "Jobs", config.Replayer: "Replays"}

// TestJobs: a function gets messages about jobs one at a time and from few concurrent readers. A failed
// message comes again before the job counts as stalled, and ends as a dead letter. And a rebuild waits
// until no batch can be under way that started before it.
func TestJobs(t *testing.T) {
	b, c := read(t), check{t}
	mappings := resources(b.region, "AWS::Lambda::EventSourceMapping")
	for name, queue := range jobQueues {
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
}

// stepSeconds bounds a step of a job with its bookkeeping, and maxTries is how often in a row it may fail:
// limits of the runner in functions/operate.
const (
	stepSeconds = 15
	maxTries    = 10
)
