package functions_test

import (
	"testing"
	"time"

	"parley/functions/api"
)

// A burst of 200, then 50 a second, for each user by herself; queries are free.
func TestRate(t *testing.T) {
	w := newWorld(t)
	w.rate = api.DefaultRate
	r := w.region(t, "eu")
	ada := r.as("ada")
	w.step.Store(0)
	post := func() *answer { return ada.post("/v1/rooms", `{"name":"x"}`) }
	wantHeaders := func(a *answer, remaining, reset string) {
		t.Helper()
		h := a.header
		if h.Get("X-RateLimit-Limit") != "200" || h.Get("X-RateLimit-Remaining") != remaining || h.Get("X-RateLimit-Reset") != reset {
			t.Errorf("the headers are %v", h)
		}
	}
	wantHeaders(post().want(201), "199", "1")
	for range 198 {
		post().want(201)
	}
	wantHeaders(post().want(201), "0", "4")
	refused := post().refused(429, "rate_limited")
	wantHeaders(refused, "0", "4")
	if refused.header.Get("Retry-After") != "1" || refused.value("retryable") != true {
		t.Errorf("%v %s", refused.header, refused.body)
	}
	r.as("bob").post("/v1/rooms", `{"name":"x"}`).want(201)
	for range 300 {
		if a := ada.get("/v1/rooms").want(200); a.header.Get("X-RateLimit-Limit") != "" {
			t.Fatal("a query is counted")
		}
	}
	w.pass(19 * time.Millisecond)
	post().refused(429, "rate_limited")
	w.pass(time.Millisecond)
	post().want(201)
	post().refused(429, "rate_limited")
	w.pass(time.Second)
	for range 50 {
		ada.post("/v1/rooms", "no JSON").refused(400, "malformed_body") // counts, too
	}
	post().refused(429, "rate_limited")
	w.pass(time.Hour)
	for range 200 {
		post().want(201)
	}
	post().refused(429, "rate_limited")
}
