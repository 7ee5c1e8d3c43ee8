package template_test

import (
	"fmt"
	"slices"
	"strings"

	"parley/events"
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

// onConnections is what who pushes may do: all with the table of connections, where a transaction
// needs the right to each of its parts, and post to the sockets of the one stage, or close them.
var onConnections = []string{
	"dynamodb:BatchGetItem on Connections", "dynamodb:BatchWriteItem on Connections", "dynamodb:ConditionCheckItem on Connections",
	"dynamodb:DeleteItem on Connections", "dynamodb:GetItem on Connections", "dynamodb:PutItem on Connections", "dynamodb:Query on Connections",
	"dynamodb:UpdateItem on Connections", "execute-api:ManageConnections on " + socketsARN + "/DELETE/@connections/*",
	"execute-api:ManageConnections on " + socketsARN + "/POST/@connections/*",
}

// socketsARN is the stage of the WebSocket API as policies name it.
const socketsARN = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${LiveApi}/live"

// keysARN is the table of users' keys, and rootARN what wraps them, as policies name them.
const (
	keysARN = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/parley-${Stage}-keys"
	rootARN = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/${KeyId}"
)

// What who seals, and who only opens, may do with users' keys: it reads them by Query, adds one by
// PutItem, and sees by GetItem whether she was erased meanwhile.
var (
	opens = []string{"dynamodb:Query on keys", "kms:Decrypt on root"}
	seals = append([]string{"dynamodb:GetItem on keys", "dynamodb:PutItem on keys", "kms:Encrypt on root"}, opens...)
)

// rights are what each function may do, as "action on what": exactly this. dynamolog appends by
// PutItem, looks by GetItem what became of an append whose answer was lost, and reads by GetItem,
// Query and Scan; dynamoview reads by these and BatchGetItem, saves by PutItem and deletes by
// DeleteItem.
var rights = map[string][]string{
	config.Command: slices.Concat(seals, []string{
		"dynamodb:BatchGetItem on Views", "dynamodb:GetItem on Views", "dynamodb:GetItem on events", "dynamodb:PutItem on Views",
		"dynamodb:PutItem on events if ForAllValues:StringLike dynamodb:LeadingKeys [" + string(events.RoomStream("*")) + " " + string(events.UserStream("*")) + "]",
		"dynamodb:Query on Views", "dynamodb:Query on events",
	}),
	config.Query: slices.Concat(opens, []string{
		"dynamodb:BatchGetItem on Views", "dynamodb:BatchGetItem on events", "dynamodb:GetItem on Views", "dynamodb:GetItem on events", "dynamodb:Query on Views", "dynamodb:Query on events",
	}),
	config.Health: {
		"dynamodb:BatchGetItem on Views", "dynamodb:GetItem on Views", "dynamodb:GetItem on events", "dynamodb:Query on Views", "dynamodb:Query on events",
	},
	config.Live: slices.Concat(onConnections, seals, []string{
		"dynamodb:BatchGetItem on Views", "dynamodb:BatchGetItem on events", "dynamodb:GetItem on Views", "dynamodb:GetItem on events", "dynamodb:PutItem on Views",
		"dynamodb:PutItem on events if ForAllValues:StringLike dynamodb:LeadingKeys [" + string(events.RoomStream("*")) + " " + string(events.UserStream("*")) + "]",
		"dynamodb:Query on Views", "dynamodb:Query on events",
	}),
	config.Stream: slices.Concat(onConnections, opens, []string{
		"dynamodb:PutItem on keys", "dynamodb:DeleteItem on keys", // of who was erased
		"dynamodb:BatchGetItem on Views", "dynamodb:BatchGetItem on events", "dynamodb:DescribeStream on StreamArn", "dynamodb:GetItem on Views", "dynamodb:GetItem on events",
		"dynamodb:GetRecords on StreamArn", "dynamodb:GetShardIterator on StreamArn", "dynamodb:ListStreams on *", "dynamodb:PutItem on Views",
		"dynamodb:PutItem on events if ForAllValues:StringLike dynamodb:LeadingKeys [" + string(events.RoomStream("*")) + " map[Fn::Sub:" + string(events.OpsStream("${AWS::Region}")) + "]]",
		"dynamodb:Query on Views", "dynamodb:Query on events", "events:DescribeEventBus on Bus", "events:PutEvents on Bus",
		"s3:ListBucket on Failures", "s3:PutObject on ${Failures.Arn}/*",
	}),
	config.Beat: {
		"dynamodb:GetItem on events if ForAllValues:StringEquals dynamodb:LeadingKeys [map[Fn::Sub:" + string(events.RegionStream("${AWS::Region}")) + "]]",
		"dynamodb:PutItem on events if ForAllValues:StringEquals dynamodb:LeadingKeys [map[Fn::Sub:" + string(events.RegionStream("${AWS::Region}")) + "]]",
	},
	config.Operate: slices.Concat(seals, []string{
		"dynamodb:BatchGetItem on Views", "dynamodb:BatchGetItem on events", "dynamodb:DeleteItem on Views if ForAllValues:StringEquals dynamodb:LeadingKeys [parked]",
		"dynamodb:GetItem on Views", "dynamodb:GetItem on events", "dynamodb:PutItem on Views if ForAllValues:StringLike dynamodb:LeadingKeys [ops/* generations]",
		"dynamodb:PutItem on events if ForAllValues:StringLike dynamodb:LeadingKeys [" + string(events.RoomStream("*")) + " " + string(events.UserStream("*")) +
			" " + string(events.RegionStream("*")) + " " + string(events.OpsStream("*")) + "]",
		"dynamodb:Query on Views", "dynamodb:Query on events", "dynamodb:Scan on events", "lambda:InvokeFunction on Stream", "sqs:SendMessage on Jobs", "sqs:SendMessage on Replays",
	}),
	config.Worker: slices.Concat(onQueue("Jobs"), actedHere, []string{
		"dynamodb:BatchGetItem on Views", "dynamodb:DeleteItem on Views", "dynamodb:GetItem on Views", "dynamodb:GetItem on events", "dynamodb:PutItem on Views",
		"dynamodb:Query on Views", "dynamodb:Query on events", "dynamodb:Scan on Views", "dynamodb:Scan on events",
	}),
	config.Replayer: slices.Concat(onQueue("Replays"), actedHere, opens, []string{
		"dynamodb:GetItem on Views if ForAllValues:StringEquals dynamodb:LeadingKeys [ops/jobs]", "dynamodb:GetItem on events",
		"dynamodb:PutItem on Views if ForAllValues:StringEquals dynamodb:LeadingKeys [ops/jobs]",
		"dynamodb:Query on Views if ForAllValues:StringEquals dynamodb:LeadingKeys [ops/jobs]", "dynamodb:Query on events", "dynamodb:Scan on events",
		"events:DescribeEventBus on Bus", "events:PutEvents on Bus if StringEquals events:source " + operate.Source,
	}),
}

// onQueue is what who does jobs may do with their queue: take messages, and send the next.
func onQueue(queue string) []string {
	return []string{"sqs:DeleteMessage on " + queue, "sqs:GetQueueAttributes on " + queue, "sqs:ReceiveMessage on " + queue, "sqs:SendMessage on " + queue}
}

// actedHere is to note how a job ended.
var actedHere = []string{
	"dynamodb:PutItem on events if ForAllValues:StringEquals dynamodb:LeadingKeys [map[Fn::Sub:" + string(events.OpsStream("${AWS::Region}")) + "]]",
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
		want := append([]string{"logs:CreateLogStream on " + id + "Logs", "logs:PutLogEvents on " + id + "Logs"}, rights[name]...)
		slices.Sort(want)
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
			c.unless(on != "keys" || !strings.Contains(action, "Delete") || id == "StreamRole", "%s: %s", id, grant)
			c.unless(on != "keys" || !strings.Contains(action, "Update"), "%s: %s", id, grant)
			c.unless(on != "keys" && !strings.HasPrefix(action, "kms:") || id != "WorkerRole", "%s: %s", id, grant)
			c.unless(!strings.HasPrefix(action, "kms:") || on == "root", "%s: %s", id, grant)
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
		return strings.NewReplacer(eventsARN, "events", keysARN, "keys", rootARN, "root").Replace(sub)
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
