package dynamolog

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

// region is where tests are unless they say otherwise.
const region = "us-east-1"

// fatal is the part of a test that helpers need: of [testing.T] and of rapid's.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

var clock = events.NewClock(time.Now, events.NewMarks(nil))

func newID(t fatal) events.ID {
	t.Helper()
	id, err := clock.Mint("ada")
	if err != nil {
		t.Fatalf("mint an id: %v", err)
	}
	return id
}

func newRoom(t fatal) events.Stream { return events.RoomStream(newID(t).String()) }

func message(t fatal, room events.Stream, id events.ID, region, text string) events.Event {
	t.Helper()
	e, err := events.New(id, room, "ada", region, events.MessagePosted{Text: events.Plain(text)})
	if err != nil {
		t.Fatalf("make a message: %v", err)
	}
	return e
}

func newMessage(t fatal, room events.Stream) events.Event {
	t.Helper()
	return message(t, room, newID(t), "here", "hello")
}

// newPlace returns a place with an event table.
func newPlace(t testing.TB) dynamolocal.Endpoint {
	t.Helper()
	place := dynamotest.Open(t)
	if err := CreateTable(t.Context(), place.Config(region), "events"); err != nil {
		t.Fatal(err)
	}
	return place
}

func logAt(place dynamolocal.Endpoint) *Log { return New(place.Config(region), "events") }

// at returns the configuration of a client of any URL.
func at(url string) aws.Config {
	return aws.Config{
		Region:       region,
		BaseEndpoint: aws.String(url),
		Credentials:  credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
}

func mustAppend(t fatal, l *Log, e events.Event) {
	t.Helper()
	if _, repeat, err := l.Append(context.Background(), e); err != nil || repeat {
		t.Fatalf("append a new event: repeat %v, error %v", repeat, err)
	}
}

func recordsOf(all []events.Event) []events.Record {
	records := make([]events.Record, len(all))
	for i, e := range all {
		records[i] = events.Record{Event: e}
	}
	return records
}

func fill(t fatal, l *Log, room events.Stream, n int) []events.Event {
	t.Helper()
	all := make([]events.Event, n)
	for i := range all {
		all[i] = newMessage(t, room)
	}
	if err := l.Replicate(context.Background(), recordsOf(all)); err != nil {
		t.Fatalf("fill a log: %v", err)
	}
	return all
}

// collect reads to the end; an error must be it.
func collect(seq iter.Seq2[events.Event, error]) (all []events.Event, last error) {
	for e, err := range seq {
		if last != nil {
			return all, fmt.Errorf("it went on after the error %w", last)
		}
		if last = err; err == nil {
			all = append(all, e)
		}
	}
	return all, last
}

// wantEvents compares events by their stored form.
func wantEvents(t fatal, got, want []events.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for i := range got {
		if events.Encode(got[i]) != events.Encode(want[i]) {
			t.Fatalf("event %d is\n%+v, want\n%+v", i, events.Encode(got[i]), events.Encode(want[i]))
		}
	}
}

// calls lets calls go wrong and counts them. Set the faults before calls are made.
type calls struct {
	// faults are what goes wrong with each call of an operation, in their order. Later calls go as
	// the last one.
	faults map[string][]dynamotest.Fault

	mu   sync.Mutex
	seen map[string][]dynamotest.Call
}

func (c *calls) fault(call dynamotest.Call) dynamotest.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string][]dynamotest.Call{}
	}
	n := len(c.seen[call.Operation])
	c.seen[call.Operation] = append(c.seen[call.Operation], call)
	faults := c.faults[call.Operation]
	if len(faults) == 0 {
		return dynamotest.None
	}
	return faults[min(n, len(faults)-1)]
}

// of returns the calls of an operation so far.
func (c *calls) of(operation string) []dynamotest.Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[operation]
}

// putItem puts what no Log would put.
func putItem(t fatal, l *Log, item map[string]types.AttributeValue) {
	t.Helper()
	if _, err := l.client.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: &l.table, Item: item}); err != nil {
		t.Fatalf("put an item: %v", err)
	}
}

func number(text string) types.AttributeValue { return &types.AttributeValueMemberN{Value: text} }
