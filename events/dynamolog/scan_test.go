package dynamolog

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
)

var whole = events.Part{Of: 1}

// fillPages appends more than two pages of 1 MB.
func fillPages(t *testing.T, l *Log) []events.Event {
	t.Helper()
	room := newRoom(t)
	var all []events.Event
	for range 7 {
		e, err := events.Decode(events.Stored{Stream: string(room), ID: newID(t).String(), Data: strings.Repeat("long ", 390<<10/5)})
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, e)
		all = append(all, e)
	}
	return all
}

// TestScanFaults lets a page fail.
func TestScanFaults(t *testing.T) {
	place := newPlace(t)
	all := fillPages(t, logAt(place))
	for _, tt := range []struct {
		name   string
		faults faults
		err    error
		n      int // events before it; -1: some
	}{
		{"throttled for a while", faults{none, throttle, throttle, none}, nil, len(all)},
		{"broken for a while", faults{none, lose, drop, fail, none}, nil, len(all)},
		{"throttled at the beginning", faults{throttle}, events.ErrThrottled, 0},
		{"throttled in the middle", faults{none, throttle}, events.ErrThrottled, -1},
		{"broken in the middle", faults{none, none, drop}, events.ErrUnavailable, -1},
	} {
		c := calls{faults: map[string][]dynamotest.Fault{"Scan": tt.faults}}
		l := logAt(dynamotest.Spoil(t, place, c.fault))
		got, err := collect(l.Scan(t.Context(), whole, events.Key{}))
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.err)
		}
		if tt.n < 0 {
			tt.n = min(max(len(got), 1), len(all)-1)
		}
		wantEvents(t, got, all[:tt.n])
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
	for e, err := range l.Scan(t.Context(), whole, events.Key{}) {
		if err != nil {
			t.Fatal(err)
		}
		scanned = append(scanned, tell(e))
	}
	if !slices.Equal(scanned, want) {
		t.Errorf("scanned %v, want %v", scanned, want)
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
