package functions_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"parley/functions/api"
	"parley/projections"
)

// FuzzAPI sends any method, path and body: the answer is never a fault of the server, what the
// document declares, and a refused request leaves the log as it was (see client.send).
//
// In path and body {room}, {message}, {new} stand for a room, a message in it and a new id.
func FuzzAPI(f *testing.F) {
	for _, b := range bodies {
		f.Add(b.method, b.path, b.good, "")
	}
	for _, way := range ways {
		f.Add(way.method, way.path, way.body, "")
		f.Add(way.method, way.path, way.body, "{new}")
	}
	for _, way := range elsewhere {
		f.Add(way.method, way.path, way.body, "x")
	}
	f.Add("GET", "{room}/messages?before={message}&limit=3&as_of={message}", "", "")
	f.Add("GET", "{room}/messages?around={message}&includes={message}", "", "")
	f.Add("GET", "/v1/rooms?after={message}&includes={message}", "", "")
	f.Add("PUT", "{room}/messages/{new}", `{"text":"\ud83d\ude00","reply_to":"{message}","thread":"{message}","after":"{message}","author":"bob"}`, "")
	f.Add("PATCH", "{room}", `{"name":"a","topic":"b","private":true,"archived":null}`, "")
	f.Add("OPTIONS", "*", "\x00", "\xff")

	s := newScene(f)
	f.Fuzz(func(t *testing.T, method, path, body, key string) {
		s.t, s.world.t = t, t
		target, err := url.ParseRequestURI(s.fill(path))
		if err != nil || !validMethod(method) {
			t.Skip()
		}
		req := httptest.NewRequest("GET", "/", strings.NewReader(s.fill(body)))
		req.Method, req.URL = method, target
		c := s.operator("ada")
		req.Header.Set("Authorization", "Bearer "+c.token)
		if key != "" {
			req.Header.Set("Idempotency-Key", s.fill(key))
		}
		if a := c.send(req); a.status >= 500 {
			t.Errorf("%s answers %d %s", a.asked, a.status, a.body)
		}
		s.Sync()
	})
}

// validMethod is what net/http lets through.
func validMethod(method string) bool {
	_, err := http.NewRequest(method, "/", nil)
	return err == nil && method != ""
}

// FuzzCursor reads any text as a cursor: it is refused with a problem, unless it is one, and then
// it says what it was made of.
func FuzzCursor(f *testing.F) {
	cursors, err := api.NewCursors(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	place := projections.Place{Region: "eu-west-1", Epoch: "ABC", Number: 1 << 40, Low: time.UnixMilli(1_800_000_000_000)}
	f.Add(cursors.Encode("ada", place), "ada", "eu", "A", uint64(3), int64(0))
	f.Add("", "", "", "", uint64(0), int64(-1))
	f.Fuzz(func(t *testing.T, text, user, region, epoch string, number uint64, low int64) {
		if _, err := cursors.Decode("cursor", user, text); err != nil && !errors.As(err, new(*api.Problem)) {
			t.Fatal(err)
		}
		if len(region) > 32 || len(epoch) > 32 || low < 0 || low > 1<<50 {
			return
		}
		p := projections.Place{Region: region, Epoch: epoch, Number: number}
		if low > 0 {
			p.Low = time.UnixMilli(low)
		}
		made := cursors.Encode(user, p)
		if got, err := cursors.Decode("cursor", user, made); err != nil || got != p || len(made) > api.MaxCursor {
			t.Fatalf("%+v became %+v, %v, in %d bytes", p, got, err, len(made))
		}
		if _, err := cursors.Decode("cursor", user+"x", made); err == nil {
			t.Fatal("another's cursor is taken")
		}
	})
}
