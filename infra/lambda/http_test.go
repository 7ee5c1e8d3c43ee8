package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"parley/infra/lambda/awstest"
)

// seen has what a handler can see of a request.
type seen struct {
	Method, Path, Escaped, Query, URI, Host, Body string
	Segment                                       string
	Length                                        int64
	Header                                        http.Header
}

// see returns a handler that records what it sees.
func see(s *seen) http.Handler {
	mux := http.NewServeMux()
	h := func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*s = seen{
			r.Method, r.URL.Path, r.URL.EscapedPath(), r.URL.RawQuery, r.RequestURI, r.Host, string(body),
			r.PathValue("segment"), r.ContentLength, r.Header.Clone(),
		}
	}
	mux.HandleFunc("/reactions/{segment}", h)
	mux.HandleFunc("/", h)
	return mux
}

// TestRequestAsInNetHTTP: a handler sees the same request through the gateway as through net/http.
func TestRequestAsInNetHTTP(t *testing.T) {
	for _, tt := range []struct {
		path, body string
		header     http.Header
	}{
		{"/", "", nil},
		{"/v1/rooms?limit=3&before=%2B%20&x", "", nil},
		{"/v1/rooms", `{"name":"Hello, wörld <&> 👋"}`, http.Header{"Content-Type": {"application/json"}}},
		{"/v1/rooms", "\xff\xfe\x00binary", http.Header{"Content-Type": {"application/octet-stream"}}},
		{"/reactions/%F0%9F%91%8D", "", nil},
		{"/reactions/" + url.PathEscape("#️⃣"), "", nil},
		{"/reactions/" + url.PathEscape("👩‍🚀"), "", nil},
		{"/reactions/a%20b", "", nil},
		{"/", "", http.Header{"Cookie": {"a=1; b=2"}, "Idempotency-Key": {"X"}, "Accept": {"a,b"}}},
	} {
		var direct, throughEscaped, throughDecoded seen
		request := func() *http.Request {
			r := httptest.NewRequest("POST", tt.path, strings.NewReader(tt.body))
			for name, values := range tt.header {
				r.Header[name] = values
			}
			return r
		}
		see(&direct).ServeHTTP(httptest.NewRecorder(), request())
		for decoded, through := range map[bool]*seen{false: &throughEscaped, true: &throughDecoded} {
			if _, err := serve(see(through))(t.Context(), awstest.HTTPEvent(t, request(), decoded)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*through, direct) {
				t.Errorf("%s, path decoded %t:\n%+v\n%+v", tt.path, decoded, *through, direct)
			}
		}
	}
}

// TestAnswerAsInNetHTTP: the gateway returns the same answer as net/http.
func TestAnswerAsInNetHTTP(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"text": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			w.Header().Set("X-Late", "too late")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"text":"<&> 👋 `)
			_, _ = io.WriteString(w, `"}`)
		},
		"binary": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			_, _ = w.Write([]byte{0xff, 0, 0xfe})
		},
		"several values": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Allow"] = []string{"GET", "PUT"}
			w.Header()["Set-Cookie"] = []string{"a=1", "b=2, 3"}
			w.WriteHeader(http.StatusNoContent)
		},
	} {
		direct := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		h(direct, r)
		text, err := serve(h)(t.Context(), awstest.HTTPEvent(t, r, true))
		if err != nil {
			t.Fatal(err)
		}
		got, want := awstest.ReadHTTPAnswer(t, text), direct.Result()
		headers := map[string]string{}
		for name, values := range want.Header {
			if name != "Set-Cookie" {
				headers[name] = strings.Join(values, ",")
			}
		}
		if got.StatusCode != want.StatusCode || !bytes.Equal([]byte(got.Body), direct.Body.Bytes()) ||
			!maps.Equal(got.Headers, headers) || !slices.Equal(got.Cookies, want.Header["Set-Cookie"]) {
			t.Errorf("%s: %s, want %d %v %q", name, text, want.StatusCode, want.Header, direct.Body)
		}
		if got.IsBase64Encoded != (name == "binary") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestEarlyHints: a status below 200 is ignored.
func TestEarlyHints(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	text, err := serve(h)(t.Context(), awstest.HTTPEvent(t, httptest.NewRequest("GET", "/", nil), true))
	if err != nil || awstest.ReadHTTPAnswer(t, text).StatusCode != http.StatusTeapot {
		t.Errorf("%s, %v", text, err)
	}
}

func TestHeadHasNoBody(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") })
	text, err := serve(h)(t.Context(), awstest.HTTPEvent(t, httptest.NewRequest("HEAD", "/", nil), true))
	if a := awstest.ReadHTTPAnswer(t, text); err != nil || a.StatusCode != 200 || a.Body != "" {
		t.Errorf("%s, %v", text, err)
	}
}

// TestAnswerTooLarge: an answer that Lambda would not pass on becomes a problem that says what to do.
func TestAnswerTooLarge(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "abc")
		_, _ = io.WriteString(w, strings.Repeat("x", maxAnswer))
	})
	text, err := serve(h)(t.Context(), awstest.HTTPEvent(t, httptest.NewRequest("GET", "/", nil), true))
	if err != nil || len(text) > 1000 {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	a := awstest.ReadHTTPAnswer(t, text)
	var p struct {
		Code      string
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil || a.StatusCode != 422 || p.Code != "answer_too_large" || p.RequestID != "abc" ||
		a.Headers["Content-Type"] != "application/problem+json" {
		t.Errorf("%s, %v", text, err)
	}
}

// TestNoHTTPEvent: other events fail the invocation.
func TestNoHTTPEvent(t *testing.T) {
	f := serve(see(&seen{}))
	for _, payload := range []string{
		"", "null", "{}", "[]", `"text"`, `{"Records":[]}`, `{"httpMethod":"GET","path":"/"}`,
		`{"requestContext":{"http":{"method":7}}}`,
		`{"requestContext":{"http":{"method":"POST"}},"body":"%%%","isBase64Encoded":true}`,
	} {
		if answer, err := f(t.Context(), []byte(payload)); err == nil {
			t.Errorf("%s is answered with %s", payload, answer)
		}
	}
	// The smallest valid event.
	if answer, err := f(t.Context(), []byte(`{"requestContext":{"http":{"method":"GET"}}}`)); err != nil || awstest.ReadHTTPAnswer(t, answer).StatusCode != 200 {
		t.Errorf("%s, %v", answer, err)
	}
}

// TestAborted: a handler that aborts its answer fails the invocation, not the process.
func TestAborted(t *testing.T) {
	f := serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	if _, err := f(t.Context(), awstest.HTTPEvent(t, httptest.NewRequest("GET", "/", nil), true)); !errors.Is(err, errAborted) {
		t.Error(err)
	}
}

func FuzzHTTP(f *testing.F) {
	f.Add(string(awstest.HTTPEvent(f, httptest.NewRequest("GET", "/v1/rooms?limit=1", nil), true)))
	f.Add(string(awstest.HTTPEvent(f, httptest.NewRequest("POST", "/reactions/%F0%9F%91%8D", strings.NewReader("\xff")), false)))
	f.Add(`{"rawPath":"/%zz?#/../","rawQueryString":"%%;","cookies":["a"],"headers":{"":"","A b":"\n","HOST":"h","host":"g"},"requestContext":{"http":{"method":"G T"}}}`)
	f.Add(`{"requestContext":{"http":{"method":"GET"}},"body":"AA==","isBase64Encoded":true}`)
	f.Fuzz(func(t *testing.T, payload string) {
		var s seen
		answer, err := serve(see(&s))(context.Background(), []byte(payload))
		if err != nil {
			return
		}
		if a := awstest.ReadHTTPAnswer(t, answer); a.StatusCode < 200 || a.StatusCode > 599 {
			t.Errorf("%s is answered with %s", payload, answer)
		}
		if unescaped, err := url.PathUnescape(s.Escaped); err != nil || unescaped != s.Path {
			t.Errorf("the path %q is escaped as %q", s.Path, s.Escaped)
		}
	})
}

// FuzzTarget: any path is accepted as it is or decoded, and no part of it becomes a query.
func FuzzTarget(f *testing.F) {
	for _, path := range []string{"", "/", "/a b", "/👍", "/%F0%9F%91%8D", "/#️⃣", "/a?b=c", "/%", "/%2F%2f/..", "*", "//host/x", "/;%3b"} {
		f.Add(path, "a=b&c")
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		u := target(path, query)
		if path == "" {
			path = "/"
		}
		decoded, err := url.PathUnescape(path)
		if u.Path != path && (err != nil || u.Path != decoded) || u.RawQuery != query {
			t.Errorf("path %q, query %q: %#v", path, query, u)
		}
		if unescaped, err := url.PathUnescape(u.EscapedPath()); err != nil || unescaped != u.Path {
			t.Errorf("path %q is escaped as %q", u.Path, u.EscapedPath())
		}
	})
}
