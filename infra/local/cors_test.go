package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestWelcomeOrPage gives the page to browsers, and the welcome to all else.
func TestWelcomeOrPage(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(0, "ada")
	for _, test := range []struct{ accept, kind, holds string }{
		{"", "text/plain; charset=utf-8", "Parley is running"},
		{"*/*", "text/plain; charset=utf-8", "Parley is running"},
		{"text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8", "<!doctype html>"},
	} {
		status, header, text := raw(t, ada, "GET", "/", "", map[string]string{"Accept": test.accept})
		if status != 200 || header.Get("Content-Type") != test.kind || !strings.Contains(string(text), test.holds) {
			t.Errorf("Accept %q: %d %v %.40s", test.accept, status, header, text)
		}
	}
	if status, header, _ := raw(t, ada, "GET", "/page/main.js", "", nil); status != 200 || !strings.Contains(header.Get("Content-Security-Policy"), s.url(1)) {
		t.Errorf("a part of the page: %d %v", status, header)
	}
	if answer := ada.must("GET", "/local/counts", nil); len(answer["counts"].(map[string]any)) != 3 {
		t.Errorf("counts: %v", answer)
	}
}

// TestPageMayUseRegions at their own addresses; pages of other origins may not.
func TestPageMayUseRegions(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	region := s.at(1, "ada")
	s.state("one", stateFailing) // the page must learn that, too
	port := s.port()
	for origin, allowed := range map[string]bool{
		"http://127.0.0.1:" + port:              true,
		"http://localhost:" + port:              true,
		"http://[::1]:" + port:                  true,
		"":                                      false,
		"null":                                  false,
		"https://127.0.0.1:" + port:             false,
		"http://127.0.0.1:1":                    false,
		"http://127.0.0.1":                      false,
		"http://evil.example:" + port:           false,
		"http://127.0.0.1.evil.example:" + port: false,
		"http://u@127.0.0.1:" + port:            false,
		"http://127.0.0.1:" + port + "/":        false,
		s.url(1):                                false,
	} {
		headers := map[string]string{"Origin": origin, "Authorization": "Bearer " + region.token}
		_, answer, _ := raw(t, region, "GET", "/v1/rooms", "", headers)
		headers["Access-Control-Request-Method"] = "PUT"
		status, preflight, _ := raw(t, region, "OPTIONS", "/v1/rooms", "", headers)
		want := ""
		if allowed {
			want = origin
		}
		for name, h := range map[string]http.Header{"answer": answer, "preflight": preflight} {
			if h.Get("Access-Control-Allow-Origin") != want || h.Get("Vary") != "Origin" || h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("origin %q, %s: %v", origin, name, h)
			}
		}
		if allowed && (status != 204 || !strings.Contains(preflight.Get("Access-Control-Allow-Headers"), "Idempotency-Key") || !strings.Contains(answer.Get("Access-Control-Expose-Headers"), "Parley-Region")) {
			t.Errorf("origin %q: %d %v %v", origin, status, preflight, answer)
		}
	}
}
