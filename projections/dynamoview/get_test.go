package dynamoview_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/projections"
	"parley/projections/dynamoview"
)

// Keys that were not processed are asked for again, whatever a batch leaves of them.
func TestGetAsksAgain(t *testing.T) {
	bad, good := spoiled(t, "BatchGetItem", dynamotest.Part, always)
	stored := fill(t, good, 250, "body")
	for _, i := range []int{3, 100, 249} {
		missing := projections.View{Key: projections.Key{Partition: "timeline/secret-room", Sort: fmt.Sprint("missing ", i)}}
		stored = slices.Insert(stored, i, missing, stored[0])
	}
	got, err := bad.Get(t.Context(), keysOf(stored)...)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, got, stored)
}

// An answer ends at 16 MB.
func TestGetMuch(t *testing.T) {
	_, good := spoiled(t, "", dynamotest.None, 0)
	stored := fill(t, good, 60, strings.Repeat("0123456789", 30_000))
	want(t, good, stored...)
}

// A table that leaves all keys unprocessed, again and again, is under load.
func TestGetGetsNowhere(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var ask struct{ RequestItems json.RawMessage }
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"UnprocessedKeys": ask.RequestItems}) // the caller waits for it
	}))
	defer server.Close()
	v := views(dynamolocal.Endpoint{URL: server.URL, Key: dynamolocal.NewKey()})
	keys := []projections.Key{{Partition: "p", Sort: "secret"}, {Partition: "p", Sort: "other"}}
	_, err := v.Get(t.Context(), keys...)
	if !errors.Is(err, projections.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Get: %v, want %v", err, projections.ErrUnavailable)
	}
	if n := calls.Load(); n != 6 {
		t.Errorf("it asked %d times, want 6", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Get(ctx, keys...); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want %v", err, context.Canceled)
	}
}

// The number of calls that one Save makes side by side is bounded, and so is that of a Get.
func TestParallel(t *testing.T) {
	place := dynamotest.Open(t)
	cfg := createTable(t, place)
	client := cfg.HTTPClient
	var now, most atomic.Int64
	cfg.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		defer now.Add(-1)
		return client.Do(r)
	})
	v := dynamoview.New(cfg, table)
	stored := fill(t, v, 1000, "body")
	if n := most.Swap(0); n > 32 {
		t.Errorf("Save makes %d calls side by side", n)
	}
	want(t, v, stored...)
	if n := most.Load(); n > 8 {
		t.Errorf("Get makes %d calls side by side", n)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

var _ aws.HTTPClient = doer(nil)
