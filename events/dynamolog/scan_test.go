package dynamolog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
)

// TestScan: every event comes once, those of one stream in the order of their ids, and f is called
// for no segment twice at a time.
func TestScan(t *testing.T) {
	l := logAt(newPlace(t))
	want := map[events.Stream][]events.Event{}
	for range 20 {
		room := newRoom(t)
		want[room] = fill(t, l, room, 30)
	}
	long := newRoom(t)
	want[long] = nil
	for range 3 { // more than a page of 1 MB
		e, err := events.Decode(events.Stored{Stream: string(long), ID: newID(t).String(), Data: strings.Repeat("long ", 390<<10/5)})
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, e)
		want[long] = append(want[long], e)
	}
	for _, segments := range []int{0, 1, 2, 7} {
		var mu sync.Mutex
		var calls, most atomic.Int64
		got := map[events.Stream][]events.Event{}
		err := l.Scan(t.Context(), segments, func(page []events.Event) error {
			now := calls.Add(1)
			defer calls.Add(-1)
			mu.Lock()
			defer mu.Unlock()
			most.Store(max(most.Load(), now))
			if len(page) == 0 {
				t.Error("a page is empty")
			}
			for _, e := range page {
				got[e.Stream] = append(got[e.Stream], e)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if int(most.Load()) > max(segments, 1) {
			t.Errorf("%d calls at a time with %d segments", most.Load(), segments)
		}
		if len(got) != len(want) {
			t.Errorf("%d streams with %d segments, want %d", len(got), segments, len(want))
		}
		for room, all := range want {
			wantEvents(t, got[room], all)
		}
	}
}

// TestScanStops: the first error ends it, whoever made it.
func TestScanStops(t *testing.T) {
	place := newPlace(t)
	for range 10 {
		fill(t, logAt(place), newRoom(t), 5)
	}
	pages := func(pages *atomic.Int64, err error) func([]events.Event) error {
		return func([]events.Event) error { pages.Add(1); return err }
	}
	var n atomic.Int64

	own := errors.New("no more")
	if err := logAt(place).Scan(t.Context(), 1, pages(&n, own)); !errors.Is(err, own) || n.Load() != 1 {
		t.Errorf("error %v after %d pages, want its own after 1", err, n.Load())
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := logAt(place).Scan(ctx, 2, pages(&n, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}

	c := calls{faults: map[string][]dynamotest.Fault{"Scan": {throttle}}}
	l := logAt(dynamotest.Spoil(t, place, c.fault))
	if err := l.Scan(t.Context(), 2, pages(&n, nil)); !errors.Is(err, events.ErrThrottled) {
		t.Errorf("error %v, want %v", err, events.ErrThrottled)
	}

	c = calls{faults: map[string][]dynamotest.Fault{"Scan": {throttle, lose, none}}}
	n.Store(0)
	if err := l.Scan(t.Context(), 1, pages(&n, nil)); err != nil || n.Load() != 1 {
		t.Errorf("%d pages, error %v after faults that passed", n.Load(), err)
	}
}

// TestPoison: what cannot be read does not hide what can.
func TestPoison(t *testing.T) {
	l := logAt(newPlace(t))
	room := newRoom(t)
	var want []string
	for i := range 30 {
		e := newMessage(t, room)
		item := itemOf(e)
		switch i % 3 {
		case 0:
			item[attrData] = number("1")
			want = append(want, e.ID.String()+" unreadable")
		case 1:
			item[attrID] = &types.AttributeValueMemberS{Value: "no id " + e.ID.String()}
		default:
			want = append(want, e.ID.String())
		}
		putItem(t, l, item)
	}
	tell := func(e events.Event) string {
		if _, bad := e.Payload.(events.Unreadable); bad {
			return e.ID.String() + " unreadable"
		}
		return e.ID.String()
	}
	var scanned []string
	if err := l.Scan(t.Context(), 1, func(page []events.Event) error {
		for _, e := range page {
			scanned = append(scanned, tell(e))
		}
		return nil
	}); err != nil || !slices.Equal(scanned, want) {
		t.Errorf("scanned %v, %v, want %v", scanned, err, want)
	}
	var read []string
	for e, err := range l.Read(t.Context(), room, events.Range{Limit: len(want)}) {
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, tell(e))
	}
	if !slices.Equal(read, want) {
		t.Errorf("read %v, want %v", read, want)
	}
}
