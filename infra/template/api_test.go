package template_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"parley/functions"
	"parley/infra/lambda/config"
)

// document is what the API says of itself, as far as these tests look.
type document struct{ Paths map[string]map[string]any }

func readDocument() (d document, err error) {
	b, err := functions.New(functions.Parts{}).API().OpenAPI()
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	return d, err
}

// operations returns what the API serves according to its document, as "GET /path".
func operations() ([]string, error) {
	d, err := readDocument()
	if err != nil {
		return nil, err
	}
	all := []string{"GET /openapi.json", "GET /health"}
	for path, methods := range d.Paths {
		for method := range methods {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	return all, nil
}

// open are the routes that need no token.
var open = map[string]bool{"GET /openapi.json": true, "GET /health": true}

// serves is the function that an operation belongs to.
func serves(operation string) string {
	switch {
	case operation == "GET /health":
		return config.Health
	case strings.Contains(operation, " /v1/ops/"):
		return config.Operate
	case strings.HasPrefix(operation, "GET "):
		return config.Query
	}
	return config.Command
}

// covers reports whether a route takes an operation. A route's {proxy+} is one part of a path or more.
func covers(route, operation string) bool {
	if before, all := strings.CutSuffix(route, "{proxy+}"); all {
		return strings.HasPrefix(operation, before) && operation != before
	}
	return route == operation
}

// TestRoutes: each operation of the API has a route to its function, which the gateway may invoke, and
// each route has an operation.
func TestRoutes(t *testing.T) {
	b, c := read(t), check{t}
	all, err := operations()
	c.unless(err == nil && len(all) >= 25, "%d operations, %v", len(all), err)
	routes := of(b, "AWS::ApiGatewayV2::Route", "Api")
	used := map[string]bool{}
	for _, operation := range all {
		to, most := "", ""
		for id, r := range routes { // the most specific takes it
			if key := text(r, "Properties", "RouteKey"); covers(key, operation) && len(key) > len(most) {
				to, most = id, key
			}
		}
		used[to], to = true, b.target(to)
		c.unless(to == serves(operation), "%s leads to %q, want %s", operation, to, serves(operation))
	}
	for id := range routes {
		c.unless(used[id] || id == "CheckRoute", "%s serves no operation", id)
	}
	for id, r := range resources(b.region, "AWS::ApiGatewayV2::Route") {
		c.unless(routes[id] != nil || ref(at(r, "Properties", "ApiId")) == "LiveApi", "%s belongs to no API", id)
	}
}

// of returns the resources of a type that belong to one of the APIs.
func of(b both, kind, api string) map[string]tree {
	found := resources(b.region, kind)
	maps.DeleteFunc(found, func(_ string, r tree) bool { return ref(at(r, "Properties", "ApiId")) != api })
	return found
}

// longestWait returns how many seconds a client may wait for an answer of GET /v1/sync.
func longestWait() (int, error) {
	d, err := readDocument()
	for _, p := range items(d.Paths["/v1/sync"]["get"], "parameters") {
		if longest, ok := at(p, "schema", "maximum").(float64); ok && text(p, "name") == "wait" {
			return int(longest), err
		}
	}
	return 0, err
}

const (
	maxGatewayWait = 30_000 // milliseconds; an HTTP API takes no more
	forWork        = 3      // seconds; what is left after the longest wait
)

// TestTimeouts: the gateway waits longer than the function runs, and the function runs longer than a
// client may wait: an answer that the gateway cuts off has no reason.
func TestTimeouts(t *testing.T) {
	b, c := read(t), check{t}
	for id, r := range of(b, "AWS::ApiGatewayV2::Integration", "Api") {
		waits, _ := at(r, "Properties", "TimeoutInMillis").(int)
		has, _ := properties(b.region, ref(at(r, "Properties", "IntegrationUri")))["Timeout"].(int)
		c.unless(waits > has*1000 && waits <= maxGatewayWait, "%s waits %d ms for a function that has %d s; at most are %d", id, waits, has, maxGatewayWait)
	}
	has, _ := properties(b.region, function(b, config.Query))["Timeout"].(int)
	wait, err := longestWait()
	c.unless(err == nil && wait > 0, "the document does not state how long GET /v1/sync waits: %v", err)
	c.unless(has >= wait+forWork, "query has %d s, and GET /v1/sync may wait %d", has, wait)
}

// target returns the name of the function that a route of the HTTP API leads to, "" if the gateway may
// not invoke it.
func (b both) target(route string) string {
	integration := strings.TrimSuffix(strings.TrimPrefix(text(properties(b.region, route), "Target", "Fn::Sub"), "integrations/${"), "}")
	p := properties(b.region, integration)
	if text(p, "IntegrationType") != "AWS_PROXY" || text(p, "PayloadFormatVersion") != "2.0" {
		return ""
	}
	to := ref(p["IntegrationUri"])
	for _, r := range resources(b.region, "AWS::Lambda::Permission") {
		if ref(at(r, "Properties", "FunctionName")) == to && text(r, "Properties", "Principal") == "apigateway.amazonaws.com" &&
			strings.Contains(text(r, "Properties", "SourceArn", "Fn::Sub"), ":${Api}/") {
			return text(properties(b.region, to), "Handler")
		}
	}
	return ""
}

// TestStages: both APIs are throttled, routes without a token separately, and no access log has what
// identifies a person or a connection.
func TestStages(t *testing.T) {
	b, c := read(t), check{t}
	for id, r := range resources(b.region, "AWS::ApiGatewayV2::Stage") {
		p := r["Properties"].(tree)
		routes := []any{p["DefaultRouteSettings"]}
		if ref(p["ApiId"]) == "Api" {
			for route := range open {
				routes = append(routes, at(p, "RouteSettings", route))
			}
		}
		for _, settings := range routes {
			for _, limit := range []string{"ThrottlingRateLimit", "ThrottlingBurstLimit"} {
				c.unless(at(settings, limit) != nil, "%s: a route has no %s", id, limit)
			}
		}
		c.equal(id+": AutoDeploy", p["AutoDeploy"], true)
		c.accessLog(id, text(p, "AccessLogSettings", "Format")+text(p, "AccessLogSettings", "Fn::If", "1", "Format"))
	}
	c.equal("LiveLog by default", at(b.region, "Parameters", "LiveLog", "Default"), "false") // else a new account fails
}

// accessLog checks that an access log is JSON and has nothing private.
func (c check) accessLog(id, format string) {
	var fields map[string]string
	c.unless(json.Unmarshal([]byte(format), &fields) == nil && len(fields) > 5, "%s: the access log is not JSON: %s", id, format)
	for _, private := range []string{"$context.path", "$context.identity", "$context.authorizer.claims", "$context.connectionId"} {
		c.unless(!strings.Contains(format, private), "%s: the access log has %s", id, private)
	}
}

// TestAuthorizer: all but open routes need a token of the issuer for this API. cfn-lint accepts a JWT
// authorizer without issuer.
func TestAuthorizer(t *testing.T) {
	b, c := read(t), check{t}
	for id, r := range of(b, "AWS::ApiGatewayV2::Route", "Api") {
		p := r["Properties"].(tree)
		want := map[bool]string{true: "NONE ", false: "JWT Authorizer"}[open[text(p, "RouteKey")] || id == "CheckRoute"]
		c.equal(id+": its authorizer", text(p, "AuthorizationType")+" "+ref(p["AuthorizerId"]), want)
	}
	p := properties(b.region, "Authorizer")
	c.equal("AuthorizerType", p["AuthorizerType"], "JWT")
	c.equal("Issuer", ref(at(p, "JwtConfiguration", "Issuer")), "Issuer")
	c.equal("Audience", ref(at(p, "JwtConfiguration", "Audience", "0")), "Audience")
	c.equal("IdentitySource", p["IdentitySource"], []any{"$request.header.Authorization"})
}

// maxSocketWait is how long a WebSocket API waits for a function at most, in milliseconds.
const maxSocketWait = 29_000

// TestSockets: all events of the WebSocket API lead to live, its stage waits for all routes, the gateway
// waits longer than live runs, and functions post to its stage.
func TestSockets(t *testing.T) {
	b, c := read(t), check{t}
	routes, keys := of(b, "AWS::ApiGatewayV2::Route", "LiveApi"), map[string]string{}
	for id, r := range routes {
		keys[text(r, "Properties", "RouteKey")] = id
		c.equal(id+" leads to", b.socketTarget(id), config.Live)
	}
	for _, key := range []string{"$connect", "$disconnect", "$default"} {
		c.unless(keys[key] != "", "there is no route %s", key)
		for id, r := range of(b, "AWS::ApiGatewayV2::Stage", "LiveApi") {
			c.unless(slices.Contains(items(r, "DependsOn"), any(keys[key])), "%s may be deployed without %s", id, key)
		}
	}
	for id, r := range of(b, "AWS::ApiGatewayV2::Integration", "LiveApi") {
		waits, _ := at(r, "Properties", "TimeoutInMillis").(int)
		runs, _ := properties(b.region, function(b, config.Live))["Timeout"].(int)
		c.unless(waits > runs*1000 && waits <= maxSocketWait, "%s waits %d ms for a function that runs %d s; the limit is %d", id, waits, runs, maxSocketWait)
	}
	host := "${LiveApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}/" + text(properties(b.region, "LiveStage"), "StageName")
	for _, f := range []string{config.Live, config.Stream} {
		url := text(properties(b.region, function(b, f)), "Environment", "Variables", "PARLEY_SOCKETS", "Fn::Sub")
		c.equal("where "+f+" posts to", url, "https://"+host)
	}
}

// socketTarget returns the name of the function that a route of the WebSocket API leads to, "" if the
// gateway may not invoke it.
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

// TestDomain: without a domain nothing of it is made; with one, the health check of a region asks its
// own API. cfn-lint accepts any interval.
func TestDomain(t *testing.T) {
	b, c := read(t), check{t}
	for _, kind := range []string{"AWS::CertificateManager::Certificate", "AWS::ApiGatewayV2::DomainName", "AWS::ApiGatewayV2::ApiMapping", "AWS::Route53::HealthCheck", "AWS::Route53::RecordSet"} {
		for id, r := range resources(b.region, kind) {
			want := "HasDomain"
			if strings.HasPrefix(id, "Live") {
				want = "HasLiveDomain"
			}
			c.equal(id+": Condition", r["Condition"], want)
			c.unless(kind != "AWS::Route53::RecordSet" || ref(at(r, "Properties", "HealthCheckId")) == "HealthCheck", "%s has no health check", id)
		}
	}
	health := at(properties(b.region, "HealthCheck"), "HealthCheckConfig")
	c.equal("which host the health check asks", text(health, "FullyQualifiedDomainName", "Fn::Sub"), "${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}")
	stack := tree{"Fn::Select": []any{2, tree{"Fn::Split": []any{"/", tree{"Ref": "AWS::StackId"}}}}}
	c.equal("the path that the health check asks", at(health, "ResourcePath"), any(tree{"Fn::Join": []any{"", []any{"/health/", stack}}}))
	route := properties(b.region, "CheckRoute")
	c.equal("its route", at(route, "RouteKey"), any(tree{"Fn::Join": []any{"", []any{"GET /health/", stack}}}))
	c.equal("the function of its route", b.target("CheckRoute"), config.Health)
	c.equal("the limit of its route, which no other caller may use up", at(properties(b.region, "ApiStage"), "RouteSettings", "GET /health/"), nil)
	c.equal("its intervals", at(b.region, "Parameters", ref(at(health, "RequestInterval")), "AllowedValues"), []any{10, 30})
}
