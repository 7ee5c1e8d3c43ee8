package template_test

import (
	"slices"
	"strings"

	"parley/infra/lambda/config"
)

// checkLog: the event table and that of users' keys have their keys and nothing else, the stream of
// the log shows new items, and nothing takes either away.
func checkLog(b both) []string {
	var c complaints
	for id, want := range map[string]struct{ name, partition, sort, stream string }{
		"Events": {"events", "stream", "id", "NEW_IMAGE"},
		"Keys":   {"keys", "user", "key", "KEYS_ONLY"},
	} {
		r, p := at(b.global, "Resources", id), properties(b.global, id)
		c.equal(id+": StreamViewType", at(p, "StreamSpecification", "StreamViewType"), want.stream)
		c.keys(id, p, want.partition, want.sort)
		for _, policy := range []string{"DeletionPolicy", "UpdateReplacePolicy"} {
			c.equal(id+": "+policy, at(r, policy), "Retain")
		}
		for _, none := range []string{"GlobalSecondaryIndexes", "LocalSecondaryIndexes", "TimeToLiveSpecification", "ResourcePolicy"} {
			c.unless(p[none] == nil, "%s has %s", id, none)
		}
		c.equal(id+": TableName", at(p, "TableName", "Fn::Sub"), "parley-${Stage}-"+want.name)
		c.equal(id+": MultiRegionConsistency", p["MultiRegionConsistency"], tree{"Fn::If": []any{"IsStrong", "STRONG", tree{"Ref": "AWS::NoValue"}}})
	}
	c.unless(len(resources(b.global, "AWS::DynamoDB::GlobalTable")) == 2 && len(b.global["Resources"].(tree)) == 4, "global.yaml holds more or less than two tables, one key and one secret")
	c.equal("the default of Consistency", at(b.global, "Parameters", "Consistency", "Default"), "EVENTUAL")
	return c
}

// keys complains of keys other than two strings, of keys not defined, and of a table that is not
// on demand.
func (c *complaints) keys(id string, p tree, partition, sort string) {
	c.equal(id+": KeySchema", p["KeySchema"], []any{tree{"AttributeName": partition, "KeyType": "HASH"}, tree{"AttributeName": sort, "KeyType": "RANGE"}})
	c.equal(id+": AttributeDefinitions", p["AttributeDefinitions"],
		[]any{tree{"AttributeName": partition, "AttributeType": "S"}, tree{"AttributeName": sort, "AttributeType": "S"}})
	c.equal(id+": BillingMode", p["BillingMode"], "PAY_PER_REQUEST")
}

// checkReplicas: what a replica does not say it does not have. From a backup of users' keys those can
// be brought back that were destroyed: so it goes back a week and no more.
func checkReplicas(b both) []string {
	var c complaints
	for id, days := range map[string]any{"Events": nil, "Keys": 7} { // nil: 35, the most there are
		replicas := items(properties(b.global, id), "Replicas")
		c.unless(len(replicas) > 0, "%s has no replica", id)
		for _, r := range replicas {
			region := text(r, "Region")
			c.unless(region != "", "a replica of %s has no region", id)
			c.equal(id+" in "+region+": DeletionProtectionEnabled", at(r, "DeletionProtectionEnabled"), true)
			c.equal(id+" in "+region+": PointInTimeRecoveryEnabled", at(r, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"), true)
			c.equal(id+" in "+region+": RecoveryPeriodInDays", at(r, "PointInTimeRecoverySpecification", "RecoveryPeriodInDays"), days)
		}
	}
	return c
}

// checkViews: the table of views outlives its stack.
func checkViews(b both) []string {
	var c complaints
	p := properties(b.region, "Views")
	c.keys("Views", p, "partition", "sort")
	c.equal("Views: DeletionPolicy", at(b.region, "Resources", "Views", "DeletionPolicy"), "RetainExceptOnCreate")
	c.equal("Views: UpdateReplacePolicy", at(b.region, "Resources", "Views", "UpdateReplacePolicy"), "Retain")
	c.equal("Views: PointInTimeRecoveryEnabled", at(p, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"), true)
	c.equal("Views: DeletionProtectionEnabled", ref(p["DeletionProtectionEnabled"]), "ViewsProtected")
	c.equal("the default of ViewsProtected", at(b.region, "Parameters", "ViewsProtected", "Default"), "true")
	c.equal("the number of tables", len(resources(b.region, "AWS::DynamoDB::Table")), 2)
	return c
}

// checkTrigger: one reader of the stream, from its beginning, that gives up on nothing silently.
func checkTrigger(b both) []string {
	var c complaints
	mappings := resources(b.region, "AWS::Lambda::EventSourceMapping")
	c.equal("the number of mappings", len(mappings), 1+len(doers))
	readers := 0
	for id, r := range mappings {
		p := r["Properties"].(tree)
		if ref(p["EventSourceArn"]) != "StreamArn" {
			continue
		}
		readers++
		c.equal(id+": the function", text(properties(b.region, ref(p["FunctionName"])), "Handler"), config.Stream)
		c.equal(id+": StartingPosition", p["StartingPosition"], "TRIM_HORIZON")
		c.equal(id+": BisectBatchOnFunctionError", p["BisectBatchOnFunctionError"], true)
		c.equal(id+": FunctionResponseTypes", p["FunctionResponseTypes"], []any{"ReportBatchItemFailures"})
		c.between(id+": MaximumRetryAttempts", p["MaximumRetryAttempts"], 10, 10_000)
		c.between(id+": MaximumRecordAgeInSeconds", p["MaximumRecordAgeInSeconds"], 3600, 24*3600-1)
		c.between(id+": BatchSize", p["BatchSize"], 100, 10_000)
		destination := text(b.region, "Resources", ref(at(p, "DestinationConfig", "OnFailure", "Destination")), "Type")
		c.equal(id+": the failure destination", destination, "AWS::S3::Bucket")
	}
	c.equal("the number of the stream's readers", readers, 1)
	return c
}

func (c *complaints) between(what string, got any, from, to int) {
	n, ok := got.(int)
	c.unless(ok && n >= from && n <= to, "%s is %v, want %d to %d", what, got, from, to)
}

// checkFailures: what was given up is kept safe, and not for ever.
func checkFailures(b both) []string {
	var c complaints
	for id, r := range resources(b.region, "AWS::S3::Bucket") {
		p := r["Properties"].(tree)
		c.unless(at(p, "BucketEncryption", "ServerSideEncryptionConfiguration", "0") != nil, "%s is not encrypted", id)
		for _, open := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			c.equal(id+": "+open, at(p, "PublicAccessBlockConfiguration", open), true)
		}
		rule := at(p, "LifecycleConfiguration", "Rules", "0")
		c.unless(text(rule, "Status") == "Enabled" && at(rule, "ExpirationInDays") != nil, "%s forgets nothing", id)
		c.equal(id+": DeletionPolicy", r["DeletionPolicy"], "RetainExceptOnCreate")
	}
	c.unless(len(resources(b.region, "AWS::S3::Bucket")) == 1, "there is not one bucket")
	return c
}

// checkLogs: every log group forgets, and every function and the API have one.
func checkLogs(b both) []string {
	var c complaints
	groups := resources(b.region, "AWS::Logs::LogGroup")
	for id := range groups {
		c.unless(properties(b.region, id)["RetentionInDays"] != nil, "%s is kept for ever", id)
	}
	var used []string
	for _, r := range resources(b.region, "AWS::Lambda::Function") {
		used = append(used, ref(at(r, "Properties", "LoggingConfig", "LogGroup")))
	}
	for _, r := range resources(b.region, "AWS::ApiGatewayV2::Stage") {
		log := at(r, "Properties", "AccessLogSettings")
		if branch := at(log, "Fn::If", "1"); branch != nil {
			log = branch
		}
		used = append(used, ref(at(log, "DestinationArn")))
	}
	slices.Sort(used)
	c.equal("the log groups in use", used, sorted(groups))
	return c
}

// checkNames: what has a name has one that its stage and, where an account has one for all
// regions, its region is a part of.
func checkNames(b both) []string {
	var c complaints
	for _, tt := range []struct{ kind, property, prefix string }{
		{"AWS::DynamoDB::Table", "TableName", "parley-${Stage}-"},
		{"AWS::Lambda::Function", "FunctionName", "parley-${Stage}-"},
		{"AWS::IAM::Role", "RoleName", "parley-${Stage}-${AWS::Region}-"},
		{"AWS::Events::EventBus", "Name", "parley-${Stage}"},
		{"AWS::Events::Rule", "Name", "parley-${Stage}-"},
		{"AWS::Events::Archive", "ArchiveName", "parley-${Stage}"},
		{"AWS::SQS::Queue", "QueueName", "parley-${Stage}-"},
		{"AWS::ApiGatewayV2::Api", "Name", "parley-${Stage}"},
		{"AWS::CloudWatch::Alarm", "AlarmName", "parley-${Stage}-"},
		{"AWS::CloudWatch::Dashboard", "DashboardName", "parley-${Stage}-${AWS::Region}"},
	} {
		seen := map[string]bool{}
		for id := range resources(b.region, tt.kind) {
			name := text(properties(b.region, id), tt.property, "Fn::Sub")
			c.unless(strings.HasPrefix(name, tt.prefix), "%s is called %q, want %s…", id, name, tt.prefix)
			c.unless(!seen[name], "two are called %s", name)
			seen[name] = true
		}
	}
	return c
}

// checkParameters: each is used, and each has what it needs to be understood.
func checkParameters(b both) []string {
	var c complaints
	for file, template := range map[string]tree{"global.yaml": b.global, "region.yaml": b.region} {
		used := map[string]bool{}
		for _, part := range []string{"Resources", "Conditions", "Outputs"} {
			walk(template[part], nil, func(_ []string, v any) {
				used[ref(v)] = true
				for piece := range strings.SplitSeq(text(v, "Fn::Sub"), "${") {
					name, _, _ := strings.Cut(piece, "}")
					used[name] = true
				}
			})
		}
		for name, p := range template["Parameters"].(tree) {
			c.unless(used[name], "%s: nothing uses the parameter %s", file, name)
			c.unless(text(p, "Description") != "", "%s: the parameter %s is not described", file, name)
		}
	}
	return c
}
