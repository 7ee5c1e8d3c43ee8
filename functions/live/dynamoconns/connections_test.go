package dynamoconns_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/functions/live"
	"parley/functions/live/dynamoconns"
	"parley/functions/live/livetest"
)

const (
	region = "eu-west-1"
	table  = "connections"
)

func createTable(t testing.TB, place dynamolocal.Endpoint) aws.Config {
	t.Helper()
	cfg := place.Config(region)
	if err := dynamoconns.CreateTable(context.Background(), cfg, table); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func open(t testing.TB) *dynamoconns.Connections {
	t.Helper()
	return dynamoconns.New(createTable(t, dynamotest.Open(t)), table)
}

// must fails the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect stores a connection of a user.
func connect(t testing.TB, c *dynamoconns.Connections, id, user string) live.Connection {
	t.Helper()
	at := time.Now()
	conn := live.Connection{ID: id, User: user, Scopes: []string{"chat"}, Expires: at.Add(time.Hour), Opened: at, Seen: at}
	must(t, c.Put(t.Context(), conn))
	return conn
}

func roomsOf(t testing.TB, c *dynamoconns.Connections, conn string) []string {
	t.Helper()
	rooms, err := c.Rooms(t.Context(), conn)
	must(t, err)
	slices.Sort(rooms)
	return rooms
}

func listeners(t testing.TB, c *dynamoconns.Connections, room string) []string {
	t.Helper()
	found, err := c.Listeners(t.Context(), room)
	must(t, err)
	var conns []string
	for _, l := range found {
		conns = append(conns, l.Conn)
	}
	return conns
}

func names(n int) []string {
	rooms := make([]string, n)
	for i := range rooms {
		rooms[i] = fmt.Sprintf("01BX5ZZKBKACTAV9WEVGEM%04d", i)
	}
	return rooms
}

// As many rooms as a socket may listen to go through many transactions and batches.
func TestManyRooms(t *testing.T) {
	c := open(t)
	rooms := names(live.DefaultLimits.Rooms)
	connect(t, c, "conn=", "ada")
	must(t, c.Subscribe(t.Context(), "conn=", 0, true, rooms...))
	if got := roomsOf(t, c, "conn="); !slices.Equal(got, rooms) {
		t.Fatalf("it listens to %d rooms", len(got))
	}
	must(t, c.Unsubscribe(t.Context(), "conn=", rooms[:500]...))
	if got := roomsOf(t, c, "conn="); !slices.Equal(got, rooms[500:]) {
		t.Fatalf("it listens to %d rooms", len(got))
	}
	must(t, c.Delete(t.Context(), "conn="))
	for _, room := range []string{rooms[0], rooms[499], rooms[500], rooms[1999]} {
		if got := listeners(t, c, room); len(got) > 0 {
			t.Errorf("%s is listened to by %q", room, got)
		}
	}
}

// A page of a query ends at 1 MB, which these long ids exceed.
func TestManyListeners(t *testing.T) {
	c := open(t)
	const n = 1200
	room := names(1)[0]
	expires := time.Now().Add(time.Hour)
	var wg sync.WaitGroup
	for part := range 16 {
		wg.Go(func() {
			for i := part; i < n; i += 16 {
				id := fmt.Sprintf("%0900d", i)
				if err := c.Put(t.Context(), live.Connection{ID: id, User: "ada", Expires: expires}); err != nil {
					t.Error(err)
				}
				if err := c.Subscribe(t.Context(), id, 0, false, room); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := listeners(t, c, room)
	slices.Sort(got)
	if len(slices.Compact(got)) != n {
		t.Errorf("%d listeners were found", len(got))
	}
	conns, err := c.Of(t.Context(), "ada")
	if err != nil || len(conns) != n {
		t.Errorf("%d connections of the user were found, %v", len(conns), err)
	}
}

// Where rooms are subscribed and removed at the same time, what is listened to is what the connection
// has, no room comes back that was taken, and of a deleted connection nothing stays.
func TestSideBySide(t *testing.T) {
	c := open(t)
	rooms := names(8)
	for round := range 10 {
		conn := fmt.Sprint("conn-", round)
		connect(t, c, conn, "ada")
		var taken atomic.Bool // of the first room, for good: nobody may subscribe to it then
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					at, err := c.Get(t.Context(), conn)
					if errors.Is(err, live.ErrGone) {
						return
					}
					some := rooms[1+rand.IntN(4):]
					if !taken.Load() {
						some = append(slices.Clone(some), rooms[0])
					}
					err = c.Subscribe(t.Context(), conn, at.Revision, false, some...)
					if err != nil && !errors.Is(err, live.ErrChanged) && !errors.Is(err, live.ErrGone) {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			for i := range 5 {
				if err := c.Unsubscribe(t.Context(), conn, rooms[2+i%3], "never"); err != nil {
					t.Error(err)
				}
			}
			taken.Store(true)
			if err := c.Unsubscribe(t.Context(), conn, rooms[0]); err != nil {
				t.Error(err)
			}
			if slices.Contains(listeners(t, c, rooms[0]), conn) {
				t.Error("a room that was taken is listened to")
			}
			if round%2 == 1 {
				if err := c.Delete(t.Context(), conn); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Wait()
		has := roomsOf(t, c, conn)
		if slices.Contains(has, rooms[0]) || round%2 == 1 && len(has) > 0 {
			t.Errorf("round %d: it has %q", round, has)
		}
		for _, room := range rooms {
			if slices.Contains(has, room) != slices.Contains(listeners(t, c, room), conn) {
				t.Errorf("round %d: it has %q, and %s disagrees", round, has, room)
			}
		}
	}
}

// Frames that come all the time cost a write a minute.
func TestTouchIsCheap(t *testing.T) {
	place := dynamotest.Open(t)
	createTable(t, place)
	var writes atomic.Int64
	c := dynamoconns.New(dynamotest.Spoil(t, place, func(call dynamotest.Call) dynamotest.Fault {
		if call.Operation == "UpdateItem" {
			writes.Add(1)
		}
		return dynamotest.None
	}).Config(region), table)
	at := connect(t, c, "conn", "ada").Seen
	for i := range 600 {
		must(t, c.Touch(t.Context(), "conn", at.Add(time.Duration(i)*time.Second)))
	}
	if n := writes.Load(); n != 9 {
		t.Errorf("600 frames in ten minutes took %d writes", n)
	}
	got, err := c.Get(t.Context(), "conn")
	if err != nil || got.Seen.Sub(at).Truncate(time.Minute) != 9*time.Minute {
		t.Errorf("it was seen after %s, %v", got.Seen.Sub(at), err)
	}
	must(t, c.Touch(t.Context(), "gone", at))
	if _, err := c.Get(t.Context(), "gone"); !errors.Is(err, live.ErrGone) {
		t.Errorf("to be touched makes a connection: %v", err)
	}
}

// Another process has seen a later frame: its time stays.
func TestTouchNeverGoesBack(t *testing.T) {
	cfg := createTable(t, dynamotest.Open(t))
	one, other := dynamoconns.New(cfg, table), dynamoconns.New(cfg, table)
	at := connect(t, one, "conn", "ada").Seen
	must(t, one.Touch(t.Context(), "conn", at.Add(time.Hour)))
	must(t, other.Touch(t.Context(), "conn", at.Add(time.Minute)))
	got, err := other.Get(t.Context(), "conn")
	if err != nil || !got.Seen.Equal(at.Add(time.Hour)) {
		t.Errorf("it was seen after %s, %v", got.Seen.Sub(at), err)
	}
}

// Ids that DynamoDB cannot hold are nobody's.
func TestIdsThatCannotBe(t *testing.T) {
	c := open(t)
	connect(t, c, "conn", "ada")
	for _, id := range []string{"", "\xff"} {
		if err := c.Put(t.Context(), live.Connection{ID: id}); err == nil {
			t.Errorf("%q is stored", id)
		}
		if _, err := c.Get(t.Context(), id); !errors.Is(err, live.ErrGone) {
			t.Errorf("%q: %v", id, err)
		}
		if err := c.Subscribe(t.Context(), "conn", 0, false, id); err == nil {
			t.Errorf("a room %q is subscribed to", id)
		}
		if err := c.Subscribe(t.Context(), id, 0, false, "room"); !errors.Is(err, live.ErrGone) {
			t.Errorf("%q: %v", id, err)
		}
		for _, err := range []error{
			c.Delete(t.Context(), id), c.Unsubscribe(t.Context(), id, "room"), c.UnsubscribeAll(t.Context(), id),
			c.Unsubscribe(t.Context(), "conn", id), c.Touch(t.Context(), id, time.Now()),
		} {
			must(t, err)
		}
		if got := roomsOf(t, c, id); len(got) > 0 {
			t.Errorf("%q has the rooms %q", id, got)
		}
		if got := listeners(t, c, id); len(got) > 0 {
			t.Errorf("%q has the listeners %q", id, got)
		}
	}
}

func TestConnections(t *testing.T) {
	livetest.Run(t, func(t *testing.T) live.Connections { return open(t) })
}
