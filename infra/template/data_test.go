package template_test

import (
	"strings"
	"testing"

	"parley/infra/lambda/config"
)

// TestLog: the event table and the table of users' keys have their keys, no index and no expiry, the log's
// change stream has new items, and no change of a stack deletes either. cfn-lint accepts a wrong
// StreamViewType, undefined keys, and a missing DeletionPolicy.
func TestLog(t *testing.T) {
	b, c := read(t), check{t}
	for id, want := range map[string]struct{ partition, sort, stream string }{
		"Events": {"stream", "id", "NEW_IMAGE"},
		"Keys":   {"user", "key", "KEYS_ONLY"},
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
		c.equal(id+": MultiRegionConsistency", p["MultiRegionConsistency"], tree{"Fn::If": []any{"IsStrong", "STRONG", tree{"Ref": "AWS::NoValue"}}})
	}
	c.equal("the number of tables", len(resources(b.global, "AWS::DynamoDB::GlobalTable")), 2)
}

// keys checks that a table has two keys, both texts and defined, and is on demand.
func (c check) keys(id string, p tree, partition, sort string) {
	c.equal(id+": KeySchema", p["KeySchema"], []any{tree{"AttributeName": partition, "KeyType": "HASH"}, tree{"AttributeName": sort, "KeyType": "RANGE"}})
	c.equal(id+": AttributeDefinitions", p["AttributeDefinitions"],
		[]any{tree{"AttributeName": partition, "AttributeType": "S"}, tree{"AttributeName": sort, "AttributeType": "S"}})
	c.equal(id+": BillingMode", p["BillingMode"], "PAY_PER_REQUEST")
}

// TestReplicas: every replica has its own protection and backups; nothing is copied from another.
// Destroyed keys can be restored from a backup, so backups of keys go back a week and no more.
func TestReplicas(t *testing.T) {
	b, c := read(t), check{t}
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
}

// TestViews: the table of views outlives its stack, and connections expire by themselves.
func TestViews(t *testing.T) {
	b, c := read(t), check{t}
	p := properties(b.region, "Views")
	c.keys("Views", p, "partition", "sort")
	c.equal("Views: DeletionPolicy", at(b.region, "Resources", "Views", "DeletionPolicy"), "RetainExceptOnCreate")
	c.equal("Views: UpdateReplacePolicy", at(b.region, "Resources", "Views", "UpdateReplacePolicy"), "Retain")
	c.equal("Views: PointInTimeRecoveryEnabled", at(p, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"), true)
	c.equal("Views: DeletionProtectionEnabled", ref(p["DeletionProtectionEnabled"]), "ViewsProtected")
	c.equal("the default of ViewsProtected", at(b.region, "Parameters", "ViewsProtected", "Default"), "true")
	p = properties(b.region, "Connections")
	c.keys("Connections", p, "partition", "sort")
	c.equal("Connections: TimeToLiveSpecification", p["TimeToLiveSpecification"], tree{"AttributeName": "expires", "Enabled": true})
}

// TestTrigger: the change stream has one reader, from its beginning. A bad record does not block its
// shard for a day, and no record is dropped silently.
func TestTrigger(t *testing.T) {
	b, c := read(t), check{t}
	mappings := resources(b.region, "AWS::Lambda::EventSourceMapping")
	c.equal("the number of mappings", len(mappings), 1+len(jobQueues))
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
		c.equal(id+": MaximumRetryAttempts", p["MaximumRetryAttempts"], -1) // an outage of hours uses up any number
		c.between(id+": MaximumRecordAgeInSeconds", p["MaximumRecordAgeInSeconds"], 12*3600, 22*3600)
		c.between(id+": BatchSize", p["BatchSize"], 100, 10_000)
		destination := text(b.region, "Resources", ref(at(p, "DestinationConfig", "OnFailure", "Destination")), "Type")
		c.equal(id+": the failure destination", destination, "AWS::S3::Bucket")
	}
	c.equal("the number of the stream's readers", readers, 1)
}

// TestFailures: failed records are encrypted, private, and kept for a limited time.
func TestFailures(t *testing.T) {
	b, c := read(t), check{t}
	for id, r := range resources(b.region, "AWS::S3::Bucket") {
		p := r["Properties"].(tree)
		c.unless(at(p, "BucketEncryption", "ServerSideEncryptionConfiguration", "0") != nil, "%s is not encrypted", id)
		for _, open := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			c.equal(id+": "+open, at(p, "PublicAccessBlockConfiguration", open), true)
		}
		rule := at(p, "LifecycleConfiguration", "Rules", "0")
		c.unless(text(rule, "Status") == "Enabled" && at(rule, "ExpirationInDays") != nil, "%s keeps records forever", id)
		c.equal(id+": DeletionPolicy", r["DeletionPolicy"], "RetainExceptOnCreate")
	}
	c.unless(len(resources(b.region, "AWS::S3::Bucket")) == 1, "there is not one bucket")
}

// TestSecret: the cursor key outlives its stack, and appears only in the variables of functions.
func TestSecret(t *testing.T) {
	b, c := read(t), check{t}
	found := resources(b.global, "AWS::SecretsManager::Secret")
	for id, r := range found {
		p := r["Properties"].(tree)
		c.equal(id+": PasswordLength", at(p, "GenerateSecretString", "PasswordLength"), 64)
		c.equal(id+": ExcludePunctuation", at(p, "GenerateSecretString", "ExcludePunctuation"), true)
		c.unless(p["SecretString"] == nil, "%s is in the template", id)
		c.equal(id+": DeletionPolicy", r["DeletionPolicy"], "RetainExceptOnCreate")
		c.equal(id+": UpdateReplacePolicy", r["UpdateReplacePolicy"], "Retain")
	}
	c.unless(len(found) == 1 && len(resources(b.region, "AWS::SecretsManager::Secret")) == 0, "there is not one secret")
	parameter := at(b.region, "Parameters", "CursorKey")
	c.equal("CursorKey: NoEcho", at(parameter, "NoEcho"), true)
	c.equal("CursorKey: MinLength", at(parameter, "MinLength"), 32)
	c.unless(at(parameter, "Default") == nil, "CursorKey has a default")
	walk(b.global["Outputs"], nil, func(path []string, v any) {
		c.unless(found[ref(v)] == nil, "Outputs/%s shows the secret", strings.Join(path, "/"))
	})
	walk(b.region, nil, func(path []string, v any) {
		where := strings.Join(path, "/")
		held := ref(v) == "CursorKey" || strings.Contains(text(v, "Fn::Sub"), "${CursorKey}")
		c.unless(!held || strings.HasSuffix(where, "/Environment/Variables/PARLEY_CURSOR_KEY"), "%s shows the secret", where)
	})
}

// TestRootKey: one multi-Region key wraps users' keys, and nothing deletes it. A region makes a replica of
// it if KeyFrom says so, and every function gets the same id.
func TestRootKey(t *testing.T) {
	b, c := read(t), check{t}
	made, replicas := resources(b.global, "AWS::KMS::Key"), resources(b.region, "AWS::KMS::ReplicaKey")
	c.unless(len(made) == 1 && len(replicas) == 1, "there is not one key, or not one replica of it")
	c.unless(len(resources(b.region, "AWS::KMS::Key")) == 0, "a region has a key of its own, which no other knows")
	for id, r := range made {
		p := r["Properties"].(tree)
		c.equal(id+": MultiRegion", p["MultiRegion"], true)
		c.equal(id+": EnableKeyRotation", p["EnableKeyRotation"], true)
		c.equal(id+": DeletionPolicy", r["DeletionPolicy"], "RetainExceptOnCreate")
		c.equal("the output KeyId", ref(at(b.global, "Outputs", "KeyId", "Value")), id)
	}
	for id, r := range replicas {
		// Even a failed creation keeps it: a deleted one would block another for days.
		c.equal(id+": DeletionPolicy", r["DeletionPolicy"], "Retain")
		c.equal(id+": Condition", r["Condition"], "MakesKey")
		c.equal(id+": PrimaryKeyArn", text(r, "Properties", "PrimaryKeyArn", "Fn::Sub"), "arn:${AWS::Partition}:kms:${KeyFrom}:${AWS::AccountId}:key/${KeyId}")
	}
	for _, all := range []map[string]tree{made, replicas} {
		for id, r := range all {
			c.equal(id+": UpdateReplacePolicy", r["UpdateReplacePolicy"], "Retain")
			c.equal(id+": PendingWindowInDays", at(r, "Properties", "PendingWindowInDays"), 30)
			c.keyPolicy(id, items(r, "Properties", "KeyPolicy", "Statement"))
		}
	}
	c.equal("MakesKey", at(b.region, "Conditions", "MakesKey"), tree{"Fn::Not": []any{tree{"Fn::Equals": []any{tree{"Ref": "KeyFrom"}, ""}}}})
	for id, r := range resources(b.region, "AWS::Lambda::Function") {
		if key := at(r, "Properties", "Environment", "Variables", "PARLEY_KMS_KEY"); key != nil {
			c.equal(id+": PARLEY_KMS_KEY", ref(key), "KeyId")
			c.equal(id+": PARLEY_KEYS_TABLE", text(r, "Properties", "Environment", "Variables", "PARLEY_KEYS_TABLE", "Fn::Sub"), "parley-${Stage}-keys")
		}
	}
}

// keyPolicy checks that a key may be used by those whom the account's policies allow, and nobody else.
func (c check) keyPolicy(id string, statements []any) {
	c.equal(id+": the number of statements", len(statements), 1)
	for _, s := range statements {
		c.equal(id+": Effect", text(s, "Effect"), "Allow")
		c.equal(id+": Principal", at(s, "Principal"), tree{"AWS": tree{"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}})
		c.equal(id+": Action", at(s, "Action"), "kms:*")
	}
}
