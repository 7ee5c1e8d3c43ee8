package dynamolog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

// TestReplicateFaults: a call that failed, whether it happened or not, and was sent again changes
// nothing of what stays.
func TestReplicateFaults(t *testing.T) {
	run, wait := sideBySide(t)
	defer wait()
	place := newPlace(t)
	good := logAt(place)
	for name, script := range map[string]faults{
		"lost once":          {lose, none},
		"lost twice":         {lose, none, lose, none},
		"the second is lost": {none, lose, none},
		"dropped, then lost": {drop, lose, none},
		"throttled":          {throttle, none, throttle, none},
	} {
		for kind, before := range map[string]string{"new": "", "beside another event of its id": "other", "there": "hello"} {
			run(name+", "+kind, func(t *testing.T) {
				e := message(t, newRoom(t), newID(t), "here", "hello")
				var want []events.Event
				if before != "" {
					want = append(want, message(t, e.Stream, e.ID, "there", before))
					mustAppend(t, good, want[0])
				}
				if before != "hello" {
					want = append(want, e)
				}
				c := calls{faults: map[string][]dynamotest.Fault{"PutItem": script}}
				if err := logAt(dynamotest.Spoil(t, place, c.fault)).Replicate(t.Context(), []events.Record{{Event: e}}); err != nil {
					t.Fatal(err)
				}
				slices.SortFunc(want, func(a, b events.Event) int { return a.Ref().Compare(b.Ref()) })
				got, err := collect(good.Read(t.Context(), e.Stream, events.Range{}))
				if err != nil {
					t.Fatal(err)
				}
				wantEvents(t, got, want)
			})
		}
	}
}

// TestCreateTable: made once, by whomever first, and left alone from then on.
func TestCreateTable(t *testing.T) {
	cfg := dynamotest.Open(t).Config(region)
	var group errgroup.Group
	for range 4 {
		group.Go(func() error { return CreateTable(t.Context(), cfg, "events") })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	l := New(cfg, "events")
	e := newMessage(t, newRoom(t))
	mustAppend(t, l, e)
	if err := CreateTable(t.Context(), cfg, "events"); err != nil {
		t.Fatal(err)
	}
	if _, err := events.Get(t.Context(), l, e.Stream, e.ID); err != nil {
		t.Errorf("made again, the table has lost an event: %v", err)
	}
	out, err := l.client.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &l.table})
	if err != nil {
		t.Fatal(err)
	}
	if mode := out.Table.BillingModeSummary; mode == nil || mode.BillingMode != types.BillingModePayPerRequest {
		t.Errorf("the table is not on demand: %+v", mode)
	}
	if s := out.Table.StreamSpecification; s == nil || s.StreamViewType != types.StreamViewTypeNewImage {
		t.Errorf("the stream is %+v", s)
	}
}

// TestCreateTableRefuses: a table of the same name that was made for something else is no event
// table.
func TestCreateTableRefuses(t *testing.T) {
	cfg := dynamotest.Open(t).Config(region)
	client, _ := newClient(cfg)
	for name, tt := range map[string]struct {
		change func(*dynamodb.CreateTableInput)
		says   string // "" is no error
	}{
		"NoStream": {func(in *dynamodb.CreateTableInput) { in.StreamSpecification = nil }, "no stream"},
		"KeysOnly": {func(in *dynamodb.CreateTableInput) {
			in.StreamSpecification.StreamViewType = types.StreamViewTypeKeysOnly
		}, "no new images"},
		"NewAndOld": {func(in *dynamodb.CreateTableInput) {
			in.StreamSpecification.StreamViewType = types.StreamViewTypeNewAndOldImages
		}, ""},
		"NoSortKey": {func(in *dynamodb.CreateTableInput) {
			in.KeySchema, in.AttributeDefinitions = in.KeySchema[:1], in.AttributeDefinitions[:1]
		}, "other keys"},
		"BinaryID": {func(in *dynamodb.CreateTableInput) {
			in.AttributeDefinitions[1].AttributeType = types.ScalarAttributeTypeB
		}, "other keys"},
		"OtherNames": {func(in *dynamodb.CreateTableInput) {
			in.KeySchema[0].AttributeName, in.AttributeDefinitions[0].AttributeName = aws.String("room"), aws.String("room")
		}, "other keys"},
	} {
		in := newTable(name)
		tt.change(in)
		if _, err := client.CreateTable(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		err := CreateTable(t.Context(), cfg, name)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, tt.says)
		}
	}
}

func TestCreateTableFaults(t *testing.T) {
	place := dynamotest.Open(t)
	c := calls{faults: map[string][]dynamotest.Fault{
		"DescribeTable": {throttle, none, drop, none},
		"CreateTable":   {lose, none}, // sent again it finds the table there
	}}
	if err := CreateTable(t.Context(), dynamotest.Spoil(t, place, c.fault).Config(region), "events"); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := CreateTable(ctx, place.Config(region), "more"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

func identity(t *testing.T, place dynamolocal.Endpoint, region, table string) string {
	t.Helper()
	id, err := New(place.Config(region), table).Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestIdentity: a table keeps its identity, and no other table has it.
func TestIdentity(t *testing.T) {
	o := dynamolocal.Options{Data: t.TempDir()}
	server := dynamotest.Start(t, o)
	place := dynamolocal.Endpoint{URL: server.URL, Key: "a"}
	seen := map[string]string{}
	check := func(name, id string) {
		t.Helper()
		if other := seen[id]; other != "" || id == "" {
			t.Errorf("%s is identified by %q, as is %s", name, id, other)
		}
		seen[id] = name
	}
	for _, in := range []string{region, "eu-west-1"} {
		for _, table := range []string{"one", "two"} {
			if err := CreateTable(t.Context(), place.Config(in), table); err != nil {
				t.Fatal(err)
			}
			check(in+" "+table, identity(t, place, in, table))
		}
	}
	before := identity(t, place, region, "one")
	l := New(place.Config(region), "one")
	mustAppend(t, l, newMessage(t, newRoom(t)))
	if id := identity(t, place, region, "one"); id != before {
		t.Errorf("after an append %q became %q", before, id)
	}
	server.Close()
	place.URL = dynamotest.Start(t, o).URL
	if id := identity(t, place, region, "one"); id != before {
		t.Errorf("after a restart %q became %q", before, id)
	}
	l = New(place.Config(region), "one")
	if _, err := l.client.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &l.table}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Identity(t.Context()); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("of no table: error %v", err)
	}
	if err := CreateTable(t.Context(), place.Config(region), "one"); err != nil {
		t.Fatal(err)
	}
	check("one made anew", identity(t, place, region, "one"))
}

// TestIdentityOnAWS: there a table has an id of its own.
func TestIdentityOnAWS(t *testing.T) {
	const id = "12345678-0123-4567-0123-123456789012"
	cfg := answers(t, 200, `{"Table":{"TableId":"`+id+`","TableName":"events","CreationDateTime":1.7E9}}`)
	if got, err := New(cfg, "events").Identity(t.Context()); err != nil || got != id {
		t.Errorf("got %q, error %v", got, err)
	}
}
