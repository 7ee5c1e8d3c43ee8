package template_test

import "strings"

// checkSecret: there is one, which outlives its stack, and it gets to the functions that read it
// and nowhere else.
func checkSecret(b both) []string {
	var c complaints
	found := resources(b.global, "AWS::SecretsManager::Secret")
	for id, r := range found {
		p := r["Properties"].(tree)
		c.equal(id+": Name", at(p, "Name", "Fn::Sub"), "parley-${Stage}-cursors")
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
	return c
}
