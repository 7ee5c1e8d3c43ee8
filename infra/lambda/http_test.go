package main

import (
	"bytes"
	"context"
	"encoding/base64"
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
	"unicode/utf8"
)

// eventOf is what the gateway makes of a request. decoded is how HTTP APIs hand on the path.
func eventOf(t testing.TB, r *http.Request, decoded bool) []byte {
	t.Helper()
	e := map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": r.URL.EscapedPath(), "rawQueryString": r.URL.RawQuery,
		"requestContext": map[string]any{
			"requestId": "JKJaXmPLvHcESHA=", "stage": "$default",
			"http": map[string]any{"method": r.Method, "path": r.URL.Path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
		},
	}
	if decoded {
		e["rawPath"] = r.URL.Path
	}
	headers := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		if name == "Cookie" {
			e["cookies"] = strings.Split(strings.Join(values, "; "), "; ")
			continue
		}
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	e["headers"] = headers
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 0 {
		e["body"] = string(body)
		if !utf8.Valid(body) {
			e["body"], e["isBase64Encoded"] = base64.StdEncoding.EncodeToString(body), true
		}
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// seen is what of a request a handler can see.
type seen struct {
	Method, Path, Escaped, Query, URI, Host, Body string
	Segment                                       string
	Length                                        int64
	Header                                        http.Header
}

// look returns a handler that takes down what it sees.
func look(s *seen) http.Handler {
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

// A handler sees of a request through the gateway what it sees through net/http.
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
		look(&direct).ServeHTTP(httptest.NewRecorder(), request())
		for decoded, through := range map[bool]*seen{false: &throughEscaped, true: &throughDecoded} {
			if _, err := serve(look(through))(t.Context(), eventOf(t, request(), decoded)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*through, direct) {
				t.Errorf("%s, path decoded %t:\n%+v\n%+v", tt.path, decoded, *through, direct)
			}
		}
	}
}

// What comes back through the gateway is what net/http would send.
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
		text, err := serve(h)(t.Context(), eventOf(t, r, true))
		if err != nil {
			t.Fatal(err)
		}
		got, want := readAnswer(t, text), direct.Result()
		headers := map[string]string{}
		for name, values := range want.Header {
			if name != "Set-Cookie" {
				headers[name] = strings.Join(values, ",")
			}
		}
		if got.StatusCode != want.StatusCode || !bytes.Equal(got.body, direct.Body.Bytes()) ||
			!maps.Equal(got.Headers, headers) || !slices.Equal(got.Cookies, want.Header["Set-Cookie"]) {
			t.Errorf("%s: %s, want %d %v %q", name, text, want.StatusCode, want.Header, direct.Body)
		}
		if got.IsBase64Encoded != (name == "binary") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// No status below 200 can be sent ahead.
func TestEarlyHints(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	text, err := serve(h)(t.Context(), eventOf(t, httptest.NewRequest("GET", "/", nil), true))
	if err != nil || readAnswer(t, text).StatusCode != http.StatusTeapot {
		t.Errorf("%s, %v", text, err)
	}
}

// readBack is an answer with its body as it was written.
type readBack struct {
	httpAnswer
	body []byte
}

func readAnswer(t testing.TB, text []byte) readBack {
	t.Helper()
	var a readBack
	if err := json.Unmarshal(text, &a.httpAnswer); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	a.body = []byte(a.Body)
	if a.IsBase64Encoded {
		var err error
		if a.body, err = base64.StdEncoding.DecodeString(a.Body); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func TestHeadHasNoBody(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") })
	text, err := serve(h)(t.Context(), eventOf(t, httptest.NewRequest("HEAD", "/", nil), true))
	if a := readAnswer(t, text); err != nil || a.StatusCode != 200 || a.Body != "" {
		t.Errorf("%s, %v", text, err)
	}
}

// What Lambda would not pass on is answered with a problem that says what to do.
func TestAnswerTooLarge(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "abc")
		_, _ = io.WriteString(w, strings.Repeat("x", maxAnswer))
	})
	text, err := serve(h)(t.Context(), eventOf(t, httptest.NewRequest("GET", "/", nil), true))
	if err != nil || len(text) > 1000 {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	a := readAnswer(t, text)
	var p struct {
		Code      string
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(a.body, &p); err != nil || a.StatusCode != 422 || p.Code != "answer_too_large" || p.RequestID != "abc" ||
		a.Headers["Content-Type"] != "application/problem+json" {
		t.Errorf("%s, %v", text, err)
	}
}

// What is no event of an HTTP API fails the invocation, and says so.
func TestNoHTTPEvent(t *testing.T) {
	f := serve(look(&seen{}))
	for _, payload := range []string{
		"", "null", "{}", "[]", `"text"`, `{"Records":[]}`, `{"httpMethod":"GET","path":"/"}`,
		`{"requestContext":{"http":{"method":7}}}`,
		`{"requestContext":{"http":{"method":"POST"}},"body":"%%%","isBase64Encoded":true}`,
	} {
		if answer, err := f(t.Context(), []byte(payload)); err == nil {
			t.Errorf("%s is answered with %s", payload, answer)
		}
	}
	// As little as there can be.
	if answer, err := f(t.Context(), []byte(`{"requestContext":{"http":{"method":"GET"}}}`)); err != nil || readAnswer(t, answer).StatusCode != 200 {
		t.Errorf("%s, %v", answer, err)
	}
}

// A handler that breaks off its answer fails the invocation and not the process.
func TestAborted(t *testing.T) {
	f := serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	if _, err := f(t.Context(), eventOf(t, httptest.NewRequest("GET", "/", nil), true)); !errors.Is(err, errAborted) {
		t.Error(err)
	}
}

func FuzzHTTP(f *testing.F) {
	f.Add(string(eventOf(f, httptest.NewRequest("GET", "/v1/rooms?limit=1", nil), true)))
	f.Add(string(eventOf(f, httptest.NewRequest("POST", "/reactions/%F0%9F%91%8D", strings.NewReader("\xff")), false)))
	f.Add(`{"rawPath":"/%zz?#/../","rawQueryString":"%%;","cookies":["a"],"headers":{"":"","A b":"\n","HOST":"h","host":"g"},"requestContext":{"http":{"method":"G T"}}}`)
	f.Add(`{"requestContext":{"http":{"method":"GET"}},"body":"AA==","isBase64Encoded":true}`)
	f.Fuzz(func(t *testing.T, payload string) {
		var s seen
		answer, err := serve(look(&s))(context.Background(), []byte(payload))
		if err != nil {
			return
		}
		if a := readAnswer(t, answer); a.StatusCode < 200 || a.StatusCode > 599 {
			t.Errorf("%s is answered with %s", payload, answer)
		}
		if unescaped, err := url.PathUnescape(s.Escaped); err != nil || unescaped != s.Path {
			t.Errorf("the path %q is escaped as %q", s.Path, s.Escaped)
		}
	})
}

// Whatever the path, it is taken as it is or with its escapes undone, and no part of it becomes
// a query.
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
