package functions_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// FuzzAPI sends any method, path and body: the answer is never a fault of the server, what the
// document declares, and a refused request leaves the log as it was (see client.send).
//
// In path and body {room}, {message}, {new} and others stand for what scene.fill says.
func FuzzAPI(f *testing.F) {
	for _, b := range bodies {
		f.Add(b.method, b.path, b.good, "")
	}
	for _, op := range operations {
		for _, key := range []string{"", "{new}", "x"} {
			f.Add(op.method, op.path, op.body, key)
		}
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
		target, err := url.ParseRequestURI(s.fill("ada", path))
		if err != nil || !validMethod(method) {
			t.Skip()
		}
		req := httptest.NewRequest("GET", "/", strings.NewReader(s.fill("ada", body)))
		req.Method, req.URL = method, target
		c := s.operator("ada")
		req.Header.Set("Authorization", "Bearer "+c.token)
		if key != "" {
			req.Header.Set("Idempotency-Key", s.fill("ada", key))
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
	at := time.UnixMilli(1_800_000_000_000)
	place := projections.Cursor{Region: "eu-west-1", At: at, Low: at, Places: map[projections.FeedTag]projections.Place{{1}: {Position: 7, At: at}}}
	f.Add(cursors.Encode("ada", place), "ada", "eu", "room/A", uint64(3), int64(0))
	f.Add("", "", "", "", uint64(0), int64(-1))
	f.Fuzz(func(t *testing.T, text, user, region, after string, position uint64, ms int64) {
		if _, err := cursors.Decode("cursor", user, text); err != nil && !errors.As(err, new(*wire.Problem)) {
			t.Fatal(err)
		}
		if region == "" || len(region) > 32 || len(after) > 150 || ms < 0 || ms > 1<<50 {
			return
		}
		at := time.UnixMilli(ms)
		p := projections.Cursor{
			Region: region, At: at, After: events.Stream(after), Until: at.Add(time.Hour),
			Places: map[projections.FeedTag]projections.Place{{2}: {Position: position, Part: position / 2, At: at.Add(time.Minute)}},
		}
		made := cursors.Encode(user, p)
		if got, err := cursors.Decode("cursor", user, made); err != nil || !reflect.DeepEqual(got, p) || len(made) > api.MaxCursor {
			t.Fatalf("%+v became %+v, %v, in %d bytes", p, got, err, len(made))
		}
		if _, err := cursors.Decode("cursor", user+"x", made); err == nil {
			t.Fatal("another's cursor is taken")
		}
	})
}

// BenchmarkPut posts messages through the whole handler: what a post costs without network
// and disk. Pebble keeps its files in memory here; the model is a log in one map, which shows the cost
// of the handler alone.
func BenchmarkPut(b *testing.B) {
	for _, log := range []string{"pebble", "model"} {
		b.Run(log, func(b *testing.B) {
			r := newRegion(b)
			room := r.as("ada").room(`{"name":"x"}`)
			if log == "model" {
				r.log.Log = logtest.NewModel()
			}
			token := "Bearer " + r.token("ada", "")
			body := `{"text":"` + strings.Repeat("All systems go. ", 6) + `"}`
			b.ReportAllocs()
			for b.Loop() {
				req := httptest.NewRequest("PUT", room+"/messages/"+r.mint("ada").String(), strings.NewReader(body))
				req.Header["Authorization"] = []string{token}
				req.Header["Content-Type"] = []string{"application/json"}
				w := httptest.NewRecorder()
				if r.handler.ServeHTTP(w, req); w.Code != http.StatusCreated {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

// BenchmarkRefused is a post that stops before the log: its body names no field that there is.
func BenchmarkRefused(b *testing.B) {
	r := newRegion(b)
	room := r.as("ada").room(`{"name":"x"}`)
	token := "Bearer " + r.token("ada", "")
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequest("PUT", room+"/messages/x", strings.NewReader(`{"text":"hello"}`))
		req.Header["Authorization"] = []string{token}
		w := httptest.NewRecorder()
		if r.handler.ServeHTTP(w, req); w.Code != http.StatusUnprocessableEntity {
			b.Fatal(w.Body)
		}
	}
}

// BenchmarkPage reads the last 50 messages of a room.
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{50, 1000} {
		b.Run(fmt.Sprintf("of_%d", n), func(b *testing.B) {
			r := newRegion(b)
			room := r.as("ada").room(`{"name":"x"}`)
			for range n {
				r.as("ada").say(room, "All systems go.")
			}
			r.Sync()
			token := "Bearer " + r.token("ada", "")
			b.ReportAllocs()
			for b.Loop() {
				req := httptest.NewRequest("GET", room+"/messages", nil)
				req.Header["Authorization"] = []string{token}
				w := httptest.NewRecorder()
				if r.handler.ServeHTTP(w, req); w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
