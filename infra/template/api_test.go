package template_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/operate"
	"parley/functions/query"
	"parley/infra/lambda/config"
)

// document is what the API says of itself, as far as these tests look.
type document struct{ Paths map[string]map[string]any }

func readDocument() (d document, err error) {
	a := api.New(api.Options{Logger: slog.New(slog.DiscardHandler)})
	command.Register(a, command.Config{})
	query.Register(a, query.Config{})
	operate.Register(a, operate.Config{})
	b, err := a.OpenAPI()
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	return d, err
}

// operations are what the API serves, as its document says: "GET /path".
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

func TestOperations(t *testing.T) {
	all, err := operations()
	if err != nil || len(all) < 25 {
		t.Fatalf("%d operations, %v", len(all), err)
	}
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

// checkRoutes: each operation of the API has a route to the function that has it, which the
// gateway may invoke; and no route is without one.
func checkRoutes(b both) []string {
	var c complaints
	all, err := operations()
	c.unless(err == nil, "the API's document cannot be read: %v", err)
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
		c.unless(used[id], "%s serves no operation", id)
	}
	for id, r := range resources(b.region, "AWS::ApiGatewayV2::Route") {
		c.unless(routes[id] != nil || ref(at(r, "Properties", "ApiId")) == "LiveApi", "%s belongs to no API", id)
	}
	return append(c, checkStage(b)...)
}

// of returns the resources of a type that belong to one of the APIs.
func of(b both, kind, api string) map[string]tree {
	found := resources(b.region, kind)
	maps.DeleteFunc(found, func(_ string, r tree) bool { return ref(at(r, "Properties", "ApiId")) != api })
	return found
}

// longestWait is how many seconds an answer of the API may be waited for; 0 if nothing can be.
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

// checkTimeouts: the gateway waits longer than the function, and the function longer than a client
// may. Who is cut off by the gateway never learns why.
func checkTimeouts(b both) []string {
	var c complaints
	for id, r := range of(b, "AWS::ApiGatewayV2::Integration", "Api") {
		waits, _ := at(r, "Properties", "TimeoutInMillis").(int)
		has, _ := properties(b.region, ref(at(r, "Properties", "IntegrationUri")))["Timeout"].(int)
		c.unless(waits > has*1000 && waits <= maxGatewayWait, "%s waits %d ms for a function that has %d s; at most are %d", id, waits, has, maxGatewayWait)
	}
	has, _ := properties(b.region, function(b, config.Query))["Timeout"].(int)
	wait, err := longestWait()
	c.unless(err == nil && wait > 0, "the document does not tell how long GET /v1/sync waits: %v", err)
	c.unless(has >= wait+forWork, "query has %d s, and GET /v1/sync may wait %d", has, wait)
	return c
}

// target is the name of the function that a route leads to, if the gateway may invoke it.
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

// checkStage: the API is bounded, and says what it was asked.
func checkStage(b both) []string {
	var c complaints
	stages := of(b, "AWS::ApiGatewayV2::Stage", "Api")
	c.equal("the number of stages", len(stages), 1)
	for id, r := range stages {
		p := r["Properties"].(tree)
		for _, limit := range []string{"ThrottlingRateLimit", "ThrottlingBurstLimit"} {
			c.unless(at(p, "DefaultRouteSettings", limit) != nil, "%s has no %s", id, limit)
			for route := range open {
				c.unless(at(p, "RouteSettings", route, limit) != nil, "%s has no %s of its own for %s, which is open to all", id, limit, route)
			}
		}
		c.equal(id+": AutoDeploy", p["AutoDeploy"], true)
		c.accessLog(id, text(p, "AccessLogSettings", "Format"))
	}
	return c
}

// accessLog complains of an access log that is no JSON, or has what is nobody's business.
func (c *complaints) accessLog(id, format string) {
	var fields map[string]string
	c.unless(json.Unmarshal([]byte(format), &fields) == nil && len(fields) > 5, "%s: the access log is no JSON: %s", id, format)
	for _, private := range []string{"$context.path", "$context.identity", "$context.authorizer.claims", "$context.connectionId"} {
		c.unless(!strings.Contains(format, private), "%s: the access log has %s", id, private)
	}
}

// checkAuthorizer: who has no token of the right issuer, for this API, gets no further.
func checkAuthorizer(b both) []string {
	var c complaints
	for id, r := range of(b, "AWS::ApiGatewayV2::Route", "Api") {
		p := r["Properties"].(tree)
		if open[text(p, "RouteKey")] {
			c.equal(id+": AuthorizationType", p["AuthorizationType"], "NONE")
			continue
		}
		c.equal(id+": AuthorizationType", p["AuthorizationType"], "JWT")
		c.equal(id+": AuthorizerId", ref(p["AuthorizerId"]), "Authorizer")
	}
	p := properties(b.region, "Authorizer")
	c.equal("AuthorizerType", p["AuthorizerType"], "JWT")
	c.equal("Issuer", ref(at(p, "JwtConfiguration", "Issuer")), "Issuer")
	c.equal("Audience", ref(at(p, "JwtConfiguration", "Audience", "0")), "Audience")
	c.equal("IdentitySource", p["IdentitySource"], []any{"$request.header.Authorization"})
	return c
}
