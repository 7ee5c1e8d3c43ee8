package template_test

// checkDomain: without a domain the stack works all the same; with one, a region that cannot do
// its work is taken out. The sockets have one of their own.
func checkDomain(b both) []string {
	var c complaints
	for _, kind := range []string{
		"AWS::CertificateManager::Certificate", "AWS::ApiGatewayV2::DomainName", "AWS::ApiGatewayV2::ApiMapping",
		"AWS::Route53::HealthCheck", "AWS::Route53::RecordSet",
	} {
		conditions := map[any]int{}
		for _, r := range resources(b.region, kind) {
			conditions[r["Condition"]]++
		}
		want := map[any]int{"HasDomain": 1, "HasLiveDomain": 1}
		if kind == "AWS::Route53::HealthCheck" {
			delete(want, "HasLiveDomain")
		}
		c.equal("the Condition of each "+kind, conditions, want)
	}
	check := at(properties(b.region, "HealthCheck"), "HealthCheckConfig")
	c.equal("the health check's Type", at(check, "Type"), "HTTPS")
	c.equal("its path", at(check, "ResourcePath"), "/health")
	c.equal("its host", at(check, "FullyQualifiedDomainName", "Fn::Sub"), "${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}")
	interval := ref(at(check, "RequestInterval"))
	c.equal("what its interval may be", at(b.region, "Parameters", interval, "AllowedValues"), []any{10, 30})
	for _, tt := range []struct{ record, mapping, api, stage, domain string }{
		{"Record", "ApiMapping", "Api", "ApiStage", "Domain"},
		{"LiveRecord", "LiveMapping", "LiveApi", "LiveStage", "LiveDomain"},
	} {
		record, mapping := properties(b.region, tt.record), properties(b.region, tt.mapping)
		name := ref(mapping["DomainName"])
		c.equal(tt.record+": Name", ref(record["Name"]), tt.domain)
		c.equal(tt.record+": Region", ref(record["Region"]), "AWS::Region")
		c.equal(tt.record+": its health check", ref(record["HealthCheckId"]), "HealthCheck")
		c.equal(tt.record+": where it leads", ref(at(record, "AliasTarget", "DNSName")), name)
		c.unless(record["SetIdentifier"] != nil, "%s has no SetIdentifier", tt.record)
		c.equal(tt.mapping+": ApiId", ref(mapping["ApiId"]), tt.api)
		c.equal(tt.mapping+": Stage", ref(mapping["Stage"]), tt.stage)
		c.equal(tt.mapping+": its name", ref(properties(b.region, name)["DomainName"]), tt.domain)
		certificate := ref(at(properties(b.region, name), "DomainNameConfigurations", "0", "CertificateArn"))
		c.equal(tt.mapping+": its certificate", ref(properties(b.region, certificate)["DomainName"]), tt.domain)
	}
	return c
}
