package functions_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/events"
	"parley/functions/live"
	"parley/functions/wire"
	"parley/projections"
)

// countedViews and countedLog count the views and the events that are read.
type countedViews struct {
	projections.Views
	n *atomic.Int64
}

func (v countedViews) Get(ctx context.Context, keys ...projections.Key) ([]projections.View, error) {
	v.n.Add(int64(len(keys)))
	return v.Views.Get(ctx, keys...)
}

func (v countedViews) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	got, err := v.Views.Query(ctx, partition, r)
	v.n.Add(1 + int64(len(got)))
	return got, err
}

type countedLog struct {
	events.Log
	n *atomic.Int64
}

func (l countedLog) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	l.n.Add(int64(len(keys)))
	return l.Log.GetMany(ctx, keys)
}

func (l countedLog) Read(ctx context.Context, s events.Stream, r events.Range) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		for e, err := range l.Log.Read(ctx, s, r) {
			l.n.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

// append appends events to the log, each by its actor and a moment later than the one before.
func (r *region) append(stream events.Stream, actor string, payloads ...events.Payload) {
	r.t.Helper()
	for _, p := range payloads {
		e, err := events.New(r.mint(actor), stream, actor, r.name, p)
		must(r.t, err)
		_, _, err = r.store.Append(context.Background(), e)
		must(r.t, err)
	}
}

// reading returns the answer to a request and how many views and events were read for it.
func (r *region) reading(request func() *answer) (*answer, int64) {
	before := r.reads.Load()
	a := request()
	return a, r.reads.Load() - before
}

// Whatever others did before, a query reads a bounded number of views and events, and continues where
// it stopped: people who left a room, and rooms that a user was put into and taken out of.
func TestWorkOfAQueryIsBounded(t *testing.T) {
	t.Parallel()
	const most, gone = 1200, 1600 // reads of a request; who left the room, and the rooms that bob left
	const exact = gone            // that the exact cursor of the first page of rooms reads more
	s := newScene(t)
	room := events.RoomStream(strings.TrimPrefix(s.room, "/v1/rooms/"))
	for n := range gone {
		left := fmt.Sprintf("a%05d", n) // sorts before the others
		s.append(room, "ada", events.MemberJoined{User: left, Role: events.RoleMember}, events.MemberLeft{User: left})
		other := events.RoomStream(s.mint("mallory").String())
		s.append(other, "mallory", events.MemberJoined{User: "bob", Role: events.RoleMember}, events.MemberLeft{User: "bob"})
	}
	s.Sync()
	bob := s.as("bob")
	bob.room(`{"name":"Last"}`)
	for path, last := range map[string]string{s.room + "/members?limit=1": "members", "/v1/rooms?limit=1": "rooms"} {
		var got []any
		for after, pages := "", 0; ; pages++ {
			a, n := s.reading(func() *answer { return bob.get(path + after).want(200) })
			most := int64(most)
			if last == "rooms" && after == "" {
				most += exact
			}
			if n > most {
				t.Errorf("%s reads %d views and events, want at most %d", path+after, n, most)
			}
			got = append(got, a.value(last).([]any)...)
			if a.value("after") == nil {
				break
			}
			if after = "&after=" + a.text("after"); pages > 10 {
				t.Fatalf("%s does not end", path)
			}
		}
		if len(got) != 2 {
			t.Errorf("%s: %v, want 2", path, got)
		}
	}
}

// What a user reads is limited by its cost, in all regions and sockets together, and for each user alone.
func TestReadsOfAUserAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rate = 1 // 40 reads a second, 400 at once
	here, there := w.region(t, "eu"), w.region(t, "us")
	room := here.as("ada").room(`{"name":"Engine"}`)
	for range 60 {
		w.pass(time.Second)
		here.as("ada").say(room, "hello")
	}
	here.Sync()
	replicate(here, there)
	w.pass(time.Minute)
	w.step.Store(0)
	socket := here.as("ada").open()
	reads := here.reads.Load() + there.reads.Load()
	for n := 0; ; n++ {
		r := []*region{here, there}[n%2]
		if a := r.as("ada").get(room + "/messages"); a.status == 429 {
			a.refused(429, "rate_limited")
			if a.header.Get("Retry-After") == "" || a.header.Get("X-RateLimit-Limit") != "" {
				t.Errorf("the headers are %v", a.header)
			}
			break
		}
	}
	if reads = here.reads.Load() + there.reads.Load() - reads; reads < 250 || reads > 500 {
		t.Errorf("%d views and events were read before the limit of 400", reads)
	}
	socket.refused(`{"action":"subscribe"}`, "rate_limited", "")
	socket.ask(`{"action":"ping"}`).is(t, "pong")
	here.as("bob").get(room + "/messages").want(200)
	w.pass(20 * time.Second)
	there.as("ada").get(room + "/messages").want(200)
}

// Two requests of a user wait at a time; further ones are answered at once.
func TestWaitsOfAUserAreLimited(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	path := "/v1/sync?wait=25&cursor=" + ada.cursor()
	for range 2 {
		done, ok := s.quota.Wait("ada")
		if !ok {
			t.Fatal("fewer than two may wait")
		}
		defer done()
	}
	began := time.Now()
	ada.get(path).want(200)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a third request waited %s", took)
	}
}

// A page of the past reads a bounded number of events, however much happened since: messages that did
// not change after it come from the views, and a page ends before one that takes too many events.
func TestWorkOfThePastIsBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for range 5200 {
		s.append(events.RoomStream(strings.TrimPrefix(s.room, "/v1/rooms/")), "ada", events.MemberLeft{User: "nobody"})
	}
	ada := s.as("ada")
	second := ada.say(s.room, "second")
	s.Sync()
	past := func(query string) (*answer, int64) {
		return s.reading(func() *answer { return ada.get(s.room + "/messages?" + query) })
	}
	unchanged := "as_of=2099-01-01T00:00:00Z&limit=1&after=" + strings.Repeat("0", 26)
	if a, n := past(unchanged); a.texts() != "hello" || n > 300 {
		t.Errorf("a message that did not change reads %d views and events: %s", n, a.body)
	}
	edit := ada.patch(s.about(""), `{"text":"edited"}`).want(200).id()
	if a, _ := past("as_of=" + edit.String()); a.texts() != "edited second" {
		t.Errorf("what the views do not have yet: %s", a.body)
	}
	s.Sync()
	if a, n := past(unchanged); a.texts() != "edited" || n > 300 {
		t.Errorf("a message that changed before reads %d views and events: %s", n, a.body)
	}
	a, n := past("as_of=" + second.String())
	if a.texts() != "second" || a.text("before") != second.String() || n > 5500 {
		t.Errorf("a page with a message that changed since reads %d views and events: %s", n, a.body)
	}
	a, n = past("as_of=" + second.String() + "&before=" + a.text("before"))
	if a.refused(422, "as_of_too_far"); n > 5500 {
		t.Errorf("a message that changed since reads %d views and events", n)
	}
}

// A catch-up of large events sends a bounded number of bytes at once, and leaves none out.
func TestCatchUpIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	cursor := ada.cursor()
	const messages, most = 60, 700_000
	for range messages {
		ada.say(s.room, strings.Repeat("x", 19_000))
	}
	s.Sync()
	socket, events := ada.open(), 0
	for request := fmt.Sprintf(`{"action":"subscribe","cursor":%q}`, cursor); request != ""; {
		bytes := 0
		for _, f := range socket.send(request) {
			switch bytes += len(f.text); f.Type {
			case "event":
				events++
			case "subscribed", "caught_up":
				if request = ""; f.More {
					request = fmt.Sprintf(`{"action":"catchup","cursor":%q}`, f.Cursor)
				}
			default:
				t.Fatalf("the frame is %+v", f)
			}
		}
		if bytes > most {
			t.Errorf("%d bytes were sent at once", bytes)
		}
	}
	if events != messages {
		t.Errorf("%d events, want %d", events, messages)
	}
	var page struct {
		Events []any
		More   bool
	}
	ada.get("/v1/sync?limit=200&cursor=" + cursor).want(200).into(&page)
	if len(page.Events) > 20 || !page.More {
		t.Errorf("GET /v1/sync answers %d events, more %v", len(page.Events), page.More)
	}
}

// A user has a bounded number of sockets in a region, whether the token comes in the handshake or later.
func TestSocketsOfAUserAreLimited(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	ada := r.as("ada")
	var first *socket
	for range 20 {
		first = ada.open()
	}
	header := http.Header{"Authorization": {"Bearer " + ada.token}}
	var p *wire.Problem
	if err := r.live.Connect(t.Context(), "one more", header); !errors.As(err, &p) || p.Status != 429 || p.Code != "too_many_sockets" {
		t.Errorf("the handshake of one more is answered with %v", err)
	}
	late := &socket{r, "late"}
	must(t, r.live.Connect(t.Context(), late.id, http.Header{}))
	late.refused(fmt.Sprintf(`{"action":"auth","token":%q}`, ada.token), "too_many_sockets", "")
	late.closed(live.CodeTooMany)
	r.as("bob").open()
	first.gone()
	ada.open()
}
