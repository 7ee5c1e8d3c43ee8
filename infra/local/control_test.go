package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// TestControlInput answers whatever is wrong with a clear problem that names the field.
func TestControlInput(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(0, "ada")
	tests := []struct {
		method, path, body string
		status             int
		code, field        string
	}{
		{"POST", "/local/token", `{"user":"ada"}`, 200, "", ""},
		{"POST", "/local/token", `{"user":"ada","scope":"operator"}`, 200, "", ""},
		{"POST", "/local/token", `{"user":"ada","scope":"king"}`, 422, "invalid_field", "scope"},
		{"POST", "/local/token", `{"user":"a b"}`, 422, "invalid_field", "user"},
		{"POST", "/local/token", `{"user":"` + strings.Repeat("a", 121) + `"}`, 422, "invalid_field", "user"},
		{"POST", "/local/token", `{}`, 422, "invalid_field", "user"},
		{"POST", "/local/token", `{"user":1}`, 422, "invalid_field", "user"},
		{"POST", "/local/token", `{"user":"ada","admin":true}`, 422, "invalid_field", "admin"},
		{"POST", "/local/token", `{"user":"ada"`, 400, "malformed_body", ""},
		{"POST", "/local/token", `{"user":"ada"} {}`, 400, "malformed_body", ""},
		{"POST", "/local/token", `["ada"]`, 400, "malformed_body", ""},
		{"POST", "/local/token", ``, 400, "malformed_body", ""},
		{"POST", "/local/token", `{"user":"` + strings.Repeat("a", maxControlBody) + `"}`, 413, "body_too_large", ""},
		{"GET", "/local/token", ``, 405, "method_not_allowed", ""},
		{"PUT", "/local/regions/one", `{"state":"isolated"}`, 200, "", ""},
		{"PUT", "/local/regions/one", `{"state":"broken"}`, 422, "invalid_field", "state"},
		{"PUT", "/local/regions/one", `{"state":null}`, 422, "invalid_field", "state"},
		{"PUT", "/local/regions/one", `{"status":"up"}`, 422, "invalid_field", "status"},
		{"PUT", "/local/regions/mars", `{"state":"up"}`, 404, "no_such_region", "region"},
		{"DELETE", "/local/regions/one", ``, 405, "method_not_allowed", ""},
		{"GET", "/local/regions/mars", ``, 404, "no_such_region", "region"},
		{"GET", "/local/regions/one", ``, 200, "", ""},
		{"GET", "/local/bus", ``, 422, "invalid_field", "region"},
		{"GET", "/local/bus?region=mars", ``, 404, "no_such_region", "region"},
		{"GET", "/local/bus?region=one&after=x", ``, 422, "invalid_field", "after"},
		{"GET", "/local/bus?region=one&after=-1", ``, 422, "invalid_field", "after"},
		{"GET", "/local/bus?region=one&type=", ``, 422, "invalid_field", "type"},
		{"GET", "/local/bus?region=one&since=1", ``, 422, "invalid_field", "since"},
		{"POST", "/local/bus?region=one", `{}`, 405, "method_not_allowed", ""},
		{"GET", "/local/", ``, 404, "no_such_path", ""},
		{"GET", "/local/nothing", ``, 404, "no_such_path", ""},
	}
	for _, test := range tests {
		status, header, text := raw(t, ada, test.method, test.path, test.body, nil)
		var p struct {
			Status    int
			Code      string
			Detail    string
			RequestID string `json:"request_id"`
			Errors    []struct{ Field string }
		}
		if err := json.Unmarshal(text, &p); err != nil {
			t.Errorf("%s %s %.40s: %v: %s", test.method, test.path, test.body, err, text)
			continue
		}
		field := ""
		if len(p.Errors) > 0 {
			field = p.Errors[0].Field
		}
		if status != test.status || p.Code != test.code || field != test.field {
			t.Errorf("%s %s %.40s: %d %s", test.method, test.path, test.body, status, text)
		}
		if status > 299 && (p.Status != status || p.Detail == "" || p.RequestID == "" || header.Get("Content-Type") != "application/problem+json") {
			t.Errorf("%s %s %.40s: %v %s", test.method, test.path, test.body, header, text)
		}
	}
	if got := s.cluster.region("one").state.Load(); got != stateIsolated {
		t.Errorf("the region is %v", got)
	}
}

// raw sends a body as it is, with headers; "Host" is the host.
func raw(t *testing.T, c *client, method, path, body string, headers map[string]string) (int, http.Header, []byte) {
	t.Helper()
	r := httptest.NewRequest(method, c.url+path, strings.NewReader(body))
	r.RequestURI = ""
	for name, value := range headers {
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	response, err := plainHTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text := make([]byte, 1<<16)
	n, _ := response.Body.Read(text)
	return response.StatusCode, response.Header, text[:n]
}

// TestOtherWebsites may not use what is for this machine.
func TestOtherWebsites(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(0, "ada")
	host := strings.TrimPrefix(s.url(0), "http://")
	port := host[strings.LastIndex(host, ":"):]
	tests := []struct {
		method  string
		headers map[string]string
		status  int
	}{
		{"POST", nil, 200},
		{"POST", map[string]string{"Host": "localhost" + port}, 200},
		{"POST", map[string]string{"Host": "[::1]" + port}, 200},
		{"POST", map[string]string{"Host": "evil.example" + port}, 403},
		{"POST", map[string]string{"Host": "127.0.0.1.evil.example"}, 403},
		{"GET", map[string]string{"Host": "evil.example"}, 403},
		{"POST", map[string]string{"Origin": "http://evil.example"}, 403},
		{"POST", map[string]string{"Origin": "null"}, 403},
		{"POST", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"POST", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://" + host}, 200},
	}
	for _, test := range tests {
		path, body := "/local/token", `{"user":"ada"}`
		if test.method == "GET" {
			path, body = "/local/regions", ""
		}
		if status, _, text := raw(t, ada, test.method, path, body, test.headers); status != test.status {
			t.Errorf("%s with %v: %d %s", test.method, test.headers, status, text)
		}
	}
}

// A body that a client has chunked badly is its fault, not that of the region it goes to.
func TestBadChunks(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(0, "ada")
	for _, body := range []string{"zz\r\n{}\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "2\r\n{}x\r\n0\r\n\r\n", "-2\r\n{}\r\n0\r\n\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url(0), "http://"))
		if err == nil {
			err = conn.SetDeadline(time.Now().Add(20 * time.Second))
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(conn, "POST /v1/rooms HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%s", ada.token, body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		text, _ := io.ReadAll(response.Body)
		_ = conn.Close()
		if response.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "malformed_body") {
			t.Errorf("%q is answered with %d %s", body, response.StatusCode, text)
		}
	}
	if status, _, text := ada.try("GET", "/v1/rooms", nil); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, text)
	}
}

// TestTokens are what an identity provider would issue: anyone can verify them by the JWKS.
func TestTokens(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(0, "ada")
	_, _, text := ada.try("GET", "/local/.well-known/jwks.json", nil)
	keys, err := keyfunc.NewJWKSetJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	token, _ := ada.must("POST", "/local/token", map[string]string{"user": "eve", "scope": "operator"})["token"].(string)
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(token, claims, keys.Keyfunc, jwt.WithIssuer(s.url(0)+"/local"), jwt.WithAudience(audience), jwt.WithExpirationRequired())
	if err != nil {
		t.Fatal(err)
	}
	life, _ := claims.GetExpirationTime()
	if left := time.Until(life.Time); claims["sub"] != "eve" || claims["scope"] != "operator" || left > tokenLife || left < tokenLife-time.Minute {
		t.Errorf("claims are %v", claims)
	}
}

// TestStopWithLongPolls answers requests that wait for events when the process stops, and does not wait for them.
func TestStopWithLongPolls(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	type outcome struct {
		status int
		text   []byte
	}
	var outcomes []chan outcome
	for at := range 1 + len(s.cluster.regions) {
		ada, done := s.at(at, fmt.Sprint("ada", at)), make(chan outcome, 1) // two requests of a user may wait
		cursor, _ := ada.must("GET", "/v1/rooms", nil)["cursor"].(string)
		r, err := http.NewRequestWithContext(t.Context(), "GET", ada.url+"/v1/sync?wait=25&cursor="+url.QueryEscape(cursor), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+ada.token)
		outcomes = append(outcomes, done)
		go func() {
			response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
			if err != nil {
				done <- outcome{0, []byte(err.Error())}
				return
			}
			text, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			done <- outcome{response.StatusCode, text}
		}()
	}
	waiting := func() bool {
		var text bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&text, 2) // a buffer takes everything
		return strings.Count(text.String(), "(*Queries).await(") >= len(outcomes)
	}
	if !eventually(10*time.Second, waiting) {
		t.Error("the requests do not wait")
	}
	began := time.Now()
	s.halt()
	if took := time.Since(began); took > drainFor/2 {
		t.Errorf("it took %s to stop", took)
	}
	for at, done := range outcomes {
		if got := <-done; got.status != 200 || !strings.Contains(string(got.text), `"cursor"`) {
			t.Errorf("the request at %d is answered %d %s", at, got.status, got.text)
		}
	}
}
