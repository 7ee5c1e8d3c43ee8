package template_test

// checkRoot: there is one key that wraps users' keys, of many regions, which nothing takes away; a
// region makes its replica of it where it is told to, and every function gets the same id.
func checkRoot(b both) []string {
	var c complaints
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
		// One that failed while it was made stays, too: another could not take its place for days.
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
	c.equal("the default of KeyFrom", at(b.region, "Parameters", "KeyFrom", "Default"), "")
	c.unless(at(b.region, "Parameters", "KeyId", "Default") == nil, "KeyId has a default")
	for id, r := range resources(b.region, "AWS::Lambda::Function") {
		if key := at(r, "Properties", "Environment", "Variables", "PARLEY_KMS_KEY"); key != nil {
			c.equal(id+": PARLEY_KMS_KEY", ref(key), "KeyId")
			c.equal(id+": PARLEY_KEYS_TABLE", text(r, "Properties", "Environment", "Variables", "PARLEY_KEYS_TABLE", "Fn::Sub"), "parley-${Stage}-keys")
		}
	}
	return c
}

// keyPolicy complains of a policy of a key that lets anybody use it but whom the account's own
// policies let. Without the account nobody could ever change it.
func (c *complaints) keyPolicy(id string, statements []any) {
	c.equal(id+": the number of statements", len(statements), 1)
	for _, s := range statements {
		c.equal(id+": Effect", text(s, "Effect"), "Allow")
		c.equal(id+": Principal", at(s, "Principal"), tree{"AWS": tree{"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}})
		c.equal(id+": Action", at(s, "Action"), "kms:*")
	}
}
