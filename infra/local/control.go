package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"

	"parley/events"
	"parley/functions/api"
)

// control serves /local/*: what only this machine has. It hands out tokens, breaks and mends
// regions, and shows what is put on their buses.
type control struct {
	cluster  *cluster
	global   *global
	issuer   *issuer
	loopback bool            // only this machine can reach it
	closing  <-chan struct{} // closed when subscribers must go
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/local/token", methods{http.MethodPost: c.token})
	mux.Handle("/local/regions", methods{http.MethodGet: c.list})
	mux.Handle("/local/regions/{region}", methods{http.MethodGet: c.show, http.MethodPut: c.change})
	mux.Handle("/local/counts", methods{http.MethodGet: c.counts})
	mux.Handle("/local/metrics", methods{http.MethodGet: c.metrics})
	mux.Handle("/local/bus", methods{http.MethodGet: c.subscribe})
	mux.Handle("/local/.well-known/jwks.json", methods{http.MethodGet: c.keys})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, api.Fail(http.StatusNotFound, "no_such_path", "under /local there are token, regions, counts, metrics, bus and .well-known/jwks.json"))
	})
	return c.guard(mux)
}

// guard keeps other websites out, which the user of this machine may be looking at: a page must
// neither send commands here (cross-site requests), nor pass for this site by giving its own
// name this machine's address (DNS rebinding).
func (c *control) guard(next http.Handler) http.Handler {
	sites := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.loopback && !isLoopback(r.Host) {
			refuse(w, api.Fail(http.StatusForbidden, "wrong_host", "/local is served under the names localhost and 127.0.0.1 only; start with -addr to serve others"))
			return
		}
		if sites.Check(r) != nil {
			refuse(w, api.Fail(http.StatusForbidden, "cross_site", "other websites may not use /local"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback reports whether a host, with or without a port, is a name of this machine to
// itself.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// token answers POST /local/token.
func (c *control) token(w http.ResponseWriter, r *http.Request) {
	var in struct {
		User  string `json:"user"`
		Scope string `json:"scope"`
	}
	err := input(w, r, &in)
	if err == nil {
		err = events.ValidateUser("user", in.User)
	}
	if err == nil && in.Scope != "" && in.Scope != api.ScopeOperator {
		err = badField("scope", `must be "operator", or be left out`)
	}
	if err != nil {
		refuseInput(w, err)
		return
	}
	text, err := c.issuer.token(in.User, in.Scope, time.Now())
	if err != nil {
		refuse(w, api.Fail(http.StatusInternalServerError, "internal", err.Error()))
		return
	}
	answer(w, map[string]string{"token": text})
}

// keys answers GET /local/.well-known/jwks.json.
func (c *control) keys(w http.ResponseWriter, _ *http.Request) { answer(w, c.issuer.jwks()) }

// regionState is a region as /local/regions shows it.
type regionState struct {
	Region  string `json:"region"`
	State   string `json:"state"`   // what it was told to be
	Healthy bool   `json:"healthy"` // what the global endpoint found
	URL     string `json:"url"`
}

func (c *control) state(r *region) regionState {
	return regionState{r.name, r.state.Load().(string), c.global.health()[r.name], r.url}
}

// list answers GET /local/regions, in the order of preference.
func (c *control) list(w http.ResponseWriter, _ *http.Request) {
	states := []regionState{}
	for _, r := range c.cluster.regions {
		states = append(states, c.state(r))
	}
	answer(w, map[string][]regionState{"regions": states})
}

// find returns the region that a request names, or answers that there is none.
func (c *control) find(w http.ResponseWriter, name string) *region {
	r := c.cluster.region(name)
	if r == nil {
		p := api.Fail(http.StatusNotFound, "no_such_region", "region must be one of "+c.names())
		p.Errors = []api.FieldError{{Field: "region", Reason: "must be one of " + c.names()}}
		refuse(w, p)
	}
	return r
}

func (c *control) names() string {
	var names []string
	for _, r := range c.cluster.regions {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

// show answers GET /local/regions/{region}.
func (c *control) show(w http.ResponseWriter, r *http.Request) {
	if region := c.find(w, r.PathValue("region")); region != nil {
		answer(w, c.state(region))
	}
}

// change answers PUT /local/regions/{region}. When it has answered, the change is in force and
// the global endpoint knows.
func (c *control) change(w http.ResponseWriter, r *http.Request) {
	region := c.find(w, r.PathValue("region"))
	if region == nil {
		return
	}
	var in struct {
		State string `json:"state"`
	}
	err := input(w, r, &in)
	if err == nil && in.State != stateUp && in.State != stateFailing && in.State != stateIsolated {
		err = badField("state", "must be up, failing or isolated")
	}
	if err != nil {
		refuseInput(w, err)
		return
	}
	c.cluster.setState(region, in.State)
	c.global.check(context.WithoutCancel(r.Context()))
	answer(w, c.state(region))
}

// metrics answers GET /local/metrics.
func (c *control) metrics(w http.ResponseWriter, r *http.Request) {
	c.cluster.metrics.handler().ServeHTTP(w, r)
}

// subscribe answers GET /local/bus?region=&type=&after=.
func (c *control) subscribe(w http.ResponseWriter, r *http.Request) {
	for name := range r.URL.Query() {
		if name != "region" && name != "type" && name != "after" {
			refuseInput(w, badField(name, "is not a parameter; there are region, type and after"))
			return
		}
	}
	name := r.URL.Query().Get("region")
	if name == "" {
		refuseInput(w, badField("region", "must be given: one of "+c.names()))
		return
	}
	region := c.find(w, name)
	if region == nil {
		return
	}
	types, after, err := subscriptionOf(r)
	if err != nil {
		refuseInput(w, err)
		return
	}
	s := &subscription{region: region.name, bus: region.bus, types: types, out: w, after: region.bus.head()}
	if after != nil {
		s.after = *after
	}
	if err := s.serve(r, c.closing); err != nil && r.Context().Err() == nil {
		region.logger.Info("a subscriber of the bus was dropped", "error", err)
	}
}

// answer sends JSON.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}
