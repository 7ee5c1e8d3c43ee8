package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// eventBridge speaks so much of EventBridge's protocol, AWS JSON 1.1, as the stream function
// uses: DescribeEventBus and PutEvents. It has one bus, "parley", and like the real one it answers
// success to what is put on any other and drops it.
type eventBridge struct {
	url string

	mu     sync.Mutex
	taken  []busEntry
	calls  int
	refuse func(busEntry) string // an error code for an entry; "" takes it
	away   func(call int) bool   // fails a call as a whole
}

// busEntry is an entry as it came.
type busEntry struct {
	EventBusName, Source, DetailType, Detail string
	Time                                     float64
}

// id is the id of the event in an entry.
func (e busEntry) id() string {
	var detail struct{ ID string }
	_ = json.Unmarshal([]byte(e.Detail), &detail) // "" if it is none
	return detail.ID
}

func newEventBridge(t testing.TB) *eventBridge {
	b := &eventBridge{}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

// set changes how it behaves.
func (b *eventBridge) set(refuse func(busEntry) string, away func(call int) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse, b.away, b.calls = refuse, away, 0
}

// entries are those on the bus, in the order in which they came.
func (b *eventBridge) entries() []busEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.taken)
}

// counts is how often each event is on the bus.
func (b *eventBridge) counts() map[string]int {
	counts := map[string]int{}
	for _, e := range b.entries() {
		counts[e.id()]++
	}
	return counts
}

// ServeHTTP implements [http.Handler].
func (b *eventBridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name    string
		Entries []busEntry
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		answerAWS(w, http.StatusBadRequest, map[string]string{"__type": "SerializationException"})
		return
	}
	switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "AWSEvents."); operation {
	case "DescribeEventBus":
		if in.Name != "parley" {
			answerAWS(w, http.StatusBadRequest, map[string]string{
				"__type": "ResourceNotFoundException", "message": "Event bus " + in.Name + " does not exist.",
			})
			return
		}
		answerAWS(w, http.StatusOK, map[string]string{"Name": in.Name, "Arn": "arn:aws:events:eu-west-1:123456789012:event-bus/parley"})
	case "PutEvents":
		b.put(w, in.Entries)
	default:
		answerAWS(w, http.StatusBadRequest, map[string]string{"__type": "UnknownOperationException"})
	}
}

func (b *eventBridge) put(w http.ResponseWriter, entries []busEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls++; b.away != nil && b.away(b.calls) {
		answerAWS(w, http.StatusInternalServerError, map[string]string{"__type": "InternalException", "message": "away"})
		return
	}
	if len(entries) < 1 || len(entries) > 10 {
		answerAWS(w, http.StatusBadRequest, map[string]string{"__type": "ValidationException"})
		return
	}
	results, failed := make([]map[string]string, len(entries)), 0
	for i, e := range entries {
		code := ""
		if b.refuse != nil {
			code = b.refuse(e)
		}
		if code != "" {
			failed++
			results[i] = map[string]string{"ErrorCode": code, "ErrorMessage": "refused by a test"}
			continue
		}
		results[i] = map[string]string{"EventId": strconv.Itoa(len(b.taken))}
		if e.EventBusName == "parley" {
			b.taken = append(b.taken, e)
		}
	}
	answerAWS(w, http.StatusOK, map[string]any{"FailedEntryCount": failed, "Entries": results})
}

func answerAWS(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller may be gone
}
