package dynamolog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
)

// TestAppendIsOneCall: an append is one PutItem, whatever it finds.
func TestAppendIsOneCall(t *testing.T) {
	var c calls
	l := logAt(dynamotest.Spoil(t, newPlace(t), c.fault))
	e := newMessage(t, newRoom(t))
	mustAppend(t, l, e)
	for _, e := range []events.Event{e, message(t, e.Stream, e.ID, "here", "other")} {
		_, _, _ = l.Append(t.Context(), e)
	}
	if n := len(c.of("PutItem")); n != 3 || len(c.of("GetItem")) != 0 {
		t.Errorf("3 appends were %d calls of PutItem and %d of GetItem", n, len(c.of("GetItem")))
	}
}

// TestAppendToDamaged: an item that is no event has its key all the same, and comes back as unreadable.
func TestAppendToDamaged(t *testing.T) {
	l := logAt(newPlace(t))
	for name, damage := range map[string]func(map[string]types.AttributeValue){
		"data of another type": func(item map[string]types.AttributeValue) { item[attrData] = number("1") },
		"no data":              func(item map[string]types.AttributeValue) { delete(item, attrData) },
		"nothing but a key": func(item map[string]types.AttributeValue) {
			for _, name := range []string{attrData, attrType, attrActor, attrRegion} {
				delete(item, name)
			}
		},
	} {
		e := newMessage(t, newRoom(t))
		item := itemOf(e)
		damage(item)
		putItem(t, l, item)
		stored, repeat, err := l.Append(t.Context(), e)
		if _, unreadable := stored.Payload.(events.Unreadable); err != nil || !repeat || !unreadable {
			t.Errorf("%s: repeat %v, error %v, stored %+v", name, repeat, err, stored)
		}
	}
}

// TestForeignAttributes: those that are not ours are no obstacle.
func TestForeignAttributes(t *testing.T) {
	l := logAt(newPlace(t))
	e := newMessage(t, newRoom(t))
	item := itemOf(e)
	item["aws:rep:deleting"] = &types.AttributeValueMemberBOOL{}
	putItem(t, l, item)
	got, err := events.Get(t.Context(), l, e.Stream, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantEvents(t, []events.Event{got}, []events.Event{e})
}

func TestAppendTooLarge(t *testing.T) {
	l := logAt(newPlace(t))
	room := newRoom(t)
	sized := func(data int) events.Event {
		e, err := events.Decode(events.Stored{
			Stream: string(room), ID: newID(t).String(), Type: "message.sung/1", Actor: "ada", Region: "here",
			Data: strings.Repeat("é", data/2),
		})
		if err != nil {
			t.Fatal(err)
		}
		return e.WithDigest()
	}
	_, _, err := l.Append(t.Context(), sized(maxItem))
	if invalid := events.IsInvalid(err); invalid == nil || invalid.Field != "data" {
		t.Fatalf("append what is too large: error %v", err)
	}
	mustAppend(t, l, sized(maxItem-200))
	if all, err := collect(l.Read(t.Context(), room, events.Range{})); err != nil || len(all) != 1 {
		t.Errorf("%d events are there, error %v; want the one that fits", len(all), err)
	}
}

// TestAppendCost holds the item to the cost that its layout promises.
// The worst case is that of the longest names.
func TestAppendCost(t *testing.T) {
	place := newPlace(t)
	var units atomic.Pointer[types.ConsumedCapacity]
	cfg := place.Config(region)
	cfg.APIOptions = append(cfg.APIOptions, func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("Measure", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			if put, ok := in.Parameters.(*dynamodb.PutItemInput); ok {
				put.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
			}
			out, metadata, err := next.HandleInitialize(ctx, in)
			if put, ok := out.Result.(*dynamodb.PutItemOutput); ok {
				units.Store(put.ConsumedCapacity)
			}
			return out, metadata, err
		}), middleware.Before)
	})
	l := New(cfg, "events")
	for _, tt := range []struct {
		actor string
		bytes int
		units float64
	}{
		{"ada", 1, 1},
		{"ada", 790, 1},
		{strings.Repeat("a", 64), 790, 1},
		{"ada", 1024, 2},
	} {
		room := events.RoomStream("direct-" + newID(t).String())
		e, err := events.New(newID(t), room, tt.actor, strings.Repeat("r", 32), events.MessagePosted{Text: events.Plain(strings.Repeat("x", tt.bytes))})
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, e)
		if got := aws.ToFloat64(units.Load().CapacityUnits); got != tt.units {
			t.Errorf("a message of %d bytes by %q costs %g write units, want %g", tt.bytes, tt.actor, got, tt.units)
		}
	}
}

// TestReadPageSize: no more is read than a limit wants, and what comes after a page goes on.
func TestReadPageSize(t *testing.T) {
	place := newPlace(t)
	room := newRoom(t)
	all := fill(t, logAt(place), room, maxPage+10)
	var c calls
	l := logAt(dynamotest.Spoil(t, place, c.fault))
	for _, tt := range []struct{ limit, calls int }{{1, 1}, {50, 1}, {maxPage, 1}, {maxPage + 1, 2}, {0, 2}} {
		before := len(c.of("Query"))
		got, err := collect(l.Read(t.Context(), room, events.Range{Limit: tt.limit}))
		if err != nil {
			t.Fatal(err)
		}
		want := all
		if tt.limit > 0 {
			want = all[:tt.limit]
		}
		wantEvents(t, got, want)
		queries := c.of("Query")[before:]
		if len(queries) != tt.calls {
			t.Errorf("limit %d took %d calls, want %d", tt.limit, len(queries), tt.calls)
		}
		if last := string(queries[len(queries)-1].Body); tt.limit == 1 && !strings.Contains(last, `"Limit":1`) {
			t.Errorf("limit 1 asks for more: %s", last)
		}
	}
}

// TestReadsAreConsistent: DynamoDB Local always is, DynamoDB only where it is asked to be: in all reads
// but one that may be stale.
func TestReadsAreConsistent(t *testing.T) {
	var c calls
	l := logAt(dynamotest.Spoil(t, newPlace(t), c.fault))
	e := newMessage(t, newRoom(t))
	mustAppend(t, l, e)
	_, many := l.GetMany(t.Context(), []events.Key{e.Key()})
	_, read := collect(l.Read(t.Context(), e.Stream, events.Range{}))
	_, scan := collect(l.Scan(t.Context(), events.Part{Of: 1}, events.Key{}))
	if err := errors.Join(many, read, scan); err != nil {
		t.Fatal(err)
	}
	for _, operation := range []string{"BatchGetItem", "Query", "Scan"} {
		calls := c.of(operation)
		if len(calls) != 1 || !strings.Contains(string(calls[0].Body), `"ConsistentRead":true`) {
			t.Errorf("%s: %s", operation, calls)
		}
	}
	if _, err := events.Find(t.Context(), l, e.Stream, e.ID, true); err != nil {
		t.Fatal(err)
	}
	if calls := c.of("Query"); len(calls) != 2 || !strings.Contains(string(calls[1].Body), `"ConsistentRead":false`) {
		t.Errorf("a look that may be stale: %s", calls)
	}
}

func TestGetMany(t *testing.T) {
	l := logAt(newPlace(t))
	var keys []events.Key
	want := map[events.Key]events.Event{}
	for range 3 {
		for _, e := range fill(t, l, newRoom(t), 90) {
			keys = append(keys, e.Key())
			want[keys[len(keys)-1]] = e
		}
	}
	asked := slices.Concat(keys[:20], keys, keys[:120])                                                                              // some twice, in one call too
	asked = append(asked, events.Key{Stream: newRoom(t), ID: keys[0].ID}, events.Key{Stream: "attic", ID: keys[0].ID}, events.Key{}) // none there
	got, err := l.GetMany(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for k, e := range want {
		wantEvents(t, []events.Event{got[k]}, []events.Event{e})
	}
	if got, err := l.GetMany(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("of no keys: %d events, error %v", len(got), err)
	}
}
