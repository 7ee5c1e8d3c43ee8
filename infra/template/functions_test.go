package template_test

import (
	"fmt"
	"slices"
	"strings"

	"parley/functions/operate"
	"parley/infra/lambda/config"
)

// function returns the logical id of a function's resource, by its handler; "" if there is none.
func function(b both, name string) string {
	for id, r := range resources(b.region, "AWS::Lambda::Function") {
		if text(r, "Properties", "Handler") == name {
			return id
		}
	}
	return ""
}

// checkFunctions: every function of the binary has its resource, and a role and a log of its own.
func checkFunctions(b both) []string {
	var c complaints
	roles, logs := map[string]bool{}, map[string]bool{}
	for _, name := range config.Functions {
		id := function(b, name)
		p := properties(b.region, id)
		if c.unless(p != nil, "%s has no resource", name); p == nil {
			continue
		}
		c.equal(name+": Runtime", p["Runtime"], "provided.al2023")
		c.equal(name+": Architectures", p["Architectures"], []any{"arm64"})
		c.equal(name+": FunctionName", at(p, "FunctionName", "Fn::Sub"), "parley-${Stage}-"+name)
		role, log := ref(p["Role"]), ref(at(p, "LoggingConfig", "LogGroup"))
		c.unless(text(b.region, "Resources", role, "Type") == "AWS::IAM::Role" && !roles[role], "%s has no role of its own", name)
		c.unless(text(b.region, "Resources", log, "Type") == "AWS::Logs::LogGroup" && !logs[log], "%s has no log group of its own", name)
		c.equal(name+": its log group", text(properties(b.region, log), "LogGroupName", "Fn::Sub"), "/aws/lambda/parley-${Stage}-"+name)
		roles[role], logs[log] = true, true
		c.unless(p["ReservedConcurrentExecutions"] == nil, "%s reserves concurrency", name)
		c.unless(text(p, "TracingConfig", "Mode") != "Active", "%s is traced", name)
		c.unless(p["Timeout"] != nil && p["MemorySize"] != nil, "%s has no bounds", name)
	}
	c.equal("the number of functions", len(resources(b.region, "AWS::Lambda::Function")), len(config.Functions))
	c.equal("the number of roles", len(resources(b.region, "AWS::IAM::Role")), len(config.Functions))
	return c
}

// checkVariables: every variable that a function reads is set if it has no default, and none is
// set that it does not read.
func checkVariables(b both) []string {
	var c complaints
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
	}
	return c
}

// eventsARN is the event table as policies name it: it is in another stack.
const eventsARN = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/parley-${Stage}-events"

// keysARN is the table of users' keys, and rootARN what wraps them, as policies name them.
const (
	keysARN = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/parley-${Stage}-keys"
	rootARN = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/${KeyId}"
)

// socketsARN is the stage of the WebSocket API as policies name it.
const socketsARN = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${LiveApi}/live"

// others are what functions may do beside what [config.Rights] says of tables, as "action on what".
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
		"events:DescribeEventBus on Bus", "events:PutEvents on Bus if StringEquals events:source "+operate.Source),
}

// onSockets is to post to the sockets of the one stage, and to close them.
var onSockets = []string{
	"execute-api:ManageConnections on " + socketsARN + "/DELETE/@connections/*",
	"execute-api:ManageConnections on " + socketsARN + "/POST/@connections/*",
}

// onQueue is what who does jobs may do with their queue: take messages, and send the next.
func onQueue(queue string) []string {
	return []string{"sqs:DeleteMessage on " + queue, "sqs:GetQueueAttributes on " + queue, "sqs:ReceiveMessage on " + queue, "sqs:SendMessage on " + queue}
}

// rights are what a function may do, as "action on what": exactly this.
func rights(b both, name string) []string {
	log := function(b, name) + "Logs"
	all := append([]string{"logs:CreateLogStream on " + log, "logs:PutLogEvents on " + log}, others[name]...)
	for _, r := range config.Rights[name] {
		all = append(all, "dynamodb:"+r.Operation+" on "+r.Table+keys(r))
	}
	slices.Sort(all)
	return all
}

// keys is the condition of a right that is limited to some partitions.
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

// checkRights: every function may do what is in the table and no more, and nobody may change or
// delete an event. Only the stream function may destroy users' keys, and who goes through the whole log
// to rebuild or audit may not use any. Who publishes what ordinary subscribers get is the stream function alone.
func checkRights(b both) []string {
	var c complaints
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
			c.unless(action != "events:PutEvents" || id == "StreamRole" || strings.HasSuffix(on, "events:source "+operate.Source), "%s: %s", id, grant)
		}
	}
	return c
}

// granted lists what a role's policies allow, sorted, as "action on resource", and " if" its condition.
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

// what names the resource of a statement.
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

// checkSchedules: beat is invoked each minute, and so are those who do jobs, to look for what lies
// still; and the schedules may.
func checkSchedules(b both) []string {
	var c complaints
	for _, name := range []string{config.Beat, config.Worker, config.Replayer} {
		c.schedule(b, name, function(b, name))
	}
	return c
}

func (c *complaints) schedule(b both, name, id string) {
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
