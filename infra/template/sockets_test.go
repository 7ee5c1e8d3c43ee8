package template_test

import (
	"strings"

	"parley/infra/lambda/config"
)

// maxSocketWait is how long a WebSocket API waits for a function, in milliseconds.
const maxSocketWait = 29_000

// checkSockets: there is one WebSocket API, whose every event leads to live, and which is bounded;
// and who posts to sockets posts to those of its stage.
func checkSockets(b both) []string {
	var c complaints
	p := properties(b.region, "LiveApi")
	c.equal("LiveApi: ProtocolType", p["ProtocolType"], "WEBSOCKET")
	c.equal("LiveApi: RouteSelectionExpression", p["RouteSelectionExpression"], "$request.body.action")
	c.equal("the number of APIs", len(resources(b.region, "AWS::ApiGatewayV2::Api")), 2)
	routes := of(b, "AWS::ApiGatewayV2::Route", "LiveApi")
	keys := map[string]string{}
	for id, r := range routes {
		keys[text(r, "Properties", "RouteKey")] = id
		c.equal(id+" leads to", b.socketTarget(id), config.Live)
	}
	stages := of(b, "AWS::ApiGatewayV2::Stage", "LiveApi")
	c.equal("the number of stages of sockets", len(stages), 1)
	for _, key := range []string{"$connect", "$disconnect", "$default"} {
		c.unless(keys[key] != "", "there is no route %s", key)
		for id, r := range stages {
			c.unless(strings.Contains(strings.Join(sorted(asKeys(items(r, "DependsOn"))), " "), keys[key]), "%s may be deployed without %s", id, key)
		}
	}
	c.equal("the number of routes of sockets", len(routes), 3)
	for id, r := range of(b, "AWS::ApiGatewayV2::Integration", "LiveApi") {
		waits, _ := at(r, "Properties", "TimeoutInMillis").(int)
		has, _ := properties(b.region, function(b, config.Live))["Timeout"].(int)
		c.unless(waits > has*1000 && waits <= maxSocketWait, "%s waits %d ms for a function that has %d s; at most are %d", id, waits, has, maxSocketWait)
	}
	for id, r := range stages {
		c.socketStage(b, id, r["Properties"].(tree))
	}
	return c
}

func (c *complaints) socketStage(b both, id string, p tree) {
	name := text(p, "StageName")
	for _, limit := range []string{"ThrottlingRateLimit", "ThrottlingBurstLimit"} {
		c.unless(at(p, "DefaultRouteSettings", limit) != nil, "%s has no %s", id, limit)
	}
	c.equal(id+": AutoDeploy", p["AutoDeploy"], true)
	c.equal(id+": when there is an access log", text(p, "AccessLogSettings", "Fn::If", "0"), "HasLiveLog")
	c.equal("LiveLog by itself", at(b.region, "Parameters", "LiveLog", "Default"), "false") // or a new account fails
	c.accessLog(id, text(p, "AccessLogSettings", "Fn::If", "1", "Format"))
	host := "${LiveApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}/" + name
	for _, f := range []string{config.Live, config.Stream} {
		url := text(properties(b.region, function(b, f)), "Environment", "Variables", "PARLEY_SOCKETS", "Fn::Sub")
		c.equal("where "+f+" posts to", url, "https://"+host)
	}
	c.equal("LiveEndpoint", text(b.region, "Outputs", "LiveEndpoint", "Value", "Fn::Sub"), "wss://"+host)
}

// asKeys makes keys of texts.
func asKeys(texts []any) map[string]bool {
	keys := map[string]bool{}
	for _, t := range texts {
		if s, ok := t.(string); ok {
			keys[s] = true
		}
	}
	return keys
}

// socketTarget is the name of the function that a route of the WebSocket API leads to, if the
// gateway may invoke it.
func (b both) socketTarget(route string) string {
	integration := strings.TrimSuffix(strings.TrimPrefix(text(properties(b.region, route), "Target", "Fn::Sub"), "integrations/${"), "}")
	p := properties(b.region, integration)
	if text(p, "IntegrationType") != "AWS_PROXY" || text(p, "IntegrationMethod") != "POST" || ref(p["ApiId"]) != "LiveApi" {
		return ""
	}
	const before, after = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${", ".Arn}/invocations"
	uri := text(p, "IntegrationUri", "Fn::Sub")
	to := strings.TrimSuffix(strings.TrimPrefix(uri, before), after)
	for _, r := range resources(b.region, "AWS::Lambda::Permission") {
		if uri == before+to+after && ref(at(r, "Properties", "FunctionName")) == to && text(r, "Properties", "Principal") == "apigateway.amazonaws.com" &&
			strings.Contains(text(r, "Properties", "SourceArn", "Fn::Sub"), ":${LiveApi}/") {
			return text(properties(b.region, to), "Handler")
		}
	}
	return ""
}

// checkConnections: the table of connections forgets by itself, and goes with its stack: it holds
// nothing but who is connected now, and their tokens, so there is no copy of it.
func checkConnections(b both) []string {
	var c complaints
	p := properties(b.region, "Connections")
	c.keys("Connections", p, "partition", "sort")
	c.equal("Connections: TimeToLiveSpecification", p["TimeToLiveSpecification"], tree{"AttributeName": "expires", "Enabled": true})
	for _, policy := range []string{"DeletionPolicy", "UpdateReplacePolicy"} {
		c.equal("Connections: "+policy, at(b.region, "Resources", "Connections", policy), "Delete")
	}
	for _, none := range []string{"StreamSpecification", "PointInTimeRecoverySpecification", "GlobalSecondaryIndexes", "DeletionProtectionEnabled"} {
		c.unless(p[none] == nil, "Connections has %s", none)
	}
	return c
}
