package functions_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"parley/events/logtest"
)

// BenchmarkPut posts messages through the whole handler: all that a post costs but for the
// network and the disk. Beside Pebble, whose files are in memory here, stands a log that is one
// map, which shows what the handler costs alone.
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
