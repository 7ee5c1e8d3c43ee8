package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/functions/stream"
)

// memoryBus opens a bus whose archive is in files. Its database is closed at the end of the test,
// when the subscribers have gone, or by the returned function.
func memoryBus(t *testing.T, files vfs.FS, keep int) (*bus, func()) {
	t.Helper()
	db, err := pebble.Open("bus", &pebble.Options{FS: files, Logger: noLogger{}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBus(db, nil, keep)
	if err != nil {
		t.Fatal(err)
	}
	closeOnce := sync.OnceFunc(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(closeOnce)
	return b, closeOnce
}

func entry(kind string, n int) stream.Entry {
	return stream.Entry{Source: "parley", DetailType: kind, Detail: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)), Time: time.Unix(1_800_000_000, 0)}
}

// put puts the entries first to last on a bus, every third of them a reaction.
func put(t *testing.T, b *bus, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		kind := "message.posted"
		if n%3 == 0 {
			kind = "reaction.added"
		}
		refused, err := b.Publish(context.Background(), []stream.Entry{entry(kind, n)})
		if err != nil || refused[0] != nil {
			t.Fatal(refused, err)
		}
	}
}

// sse is a server-sent event.
type sse struct{ id, event, data string }

// subscriber reads a bus over HTTP.
type subscriber struct {
	t     *testing.T
	lines *bufio.Scanner
	leave func() // returns when the server has noticed
}

// subscribe asks a control that serves one bus.
func subscribe(t *testing.T, b *bus, query, lastEventID string) *subscriber {
	t.Helper()
	here := &region{name: "here", logger: quiet}
	here.now.Store(&incarnation{region: here, bus: b, ctx: t.Context()})
	c := &control{cluster: &cluster{regions: []*region{here}}}
	server := httptest.NewServer(c.handler())
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	leave := sync.OnceFunc(func() { cancel(); server.Close() })
	t.Cleanup(leave)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/local/bus?region=here"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if got := response.Header.Get("Content-Type"); response.StatusCode != 200 || got != "text/event-stream" {
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("%s %s: %s", response.Status, got, body)
	}
	s := &subscriber{t, bufio.NewScanner(response.Body), leave}
	if !s.lines.Scan() || !strings.HasPrefix(s.lines.Text(), ":") { // the subscription is active now
		t.Fatalf("the stream begins with %q", s.lines.Text())
	}
	return s
}

func (s *subscriber) next() (e sse) {
	s.t.Helper()
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.event = value
		case "data":
			e.data = value
		case "":
			if e != (sse{}) {
				return e
			}
		}
	}
	s.t.Fatalf("the stream ended: %v", s.lines.Err())
	return e
}

// numbers reads so many events and returns the n of each, 0 for a reset.
func (s *subscriber) numbers(count int) (ns []int, last string) {
	s.t.Helper()
	for range count {
		e := s.next()
		var body struct{ Detail struct{ N int } }
		if err := json.Unmarshal([]byte(e.data), &body); err != nil {
			s.t.Fatal(err)
		}
		if (e.event == "reset") != (body.Detail.N == 0) {
			s.t.Fatalf("got %+v", e)
		}
		ns, last = append(ns, body.Detail.N), e.id
	}
	return ns, last
}

func (s *subscriber) want(want ...int) (last string) {
	s.t.Helper()
	got, last := s.numbers(len(want))
	if !slices.Equal(got, want) {
		s.t.Fatalf("got %v, want %v", got, want)
	}
	return last
}

// TestBusEnvelope is what EventBridge delivers.
func TestBusEnvelope(t *testing.T) {
	t.Parallel()
	b, _ := memoryBus(t, vfs.NewMem(), 100)
	put(t, b, 1, 1)
	first, again := subscribe(t, b, "&after=0", "").next(), subscribe(t, b, "&after=0", "").next()
	if first != again {
		t.Errorf("read again it is another: %+v, %+v", first, again)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(first.data), &got); err != nil {
		t.Fatal(err)
	}
	id, _ := got["id"].(string)
	if len(id) != 36 || strings.Count(id, "-") != 4 {
		t.Errorf("id %q is no UUID", id)
	}
	delete(got, "id")
	want := `{"account":"000000000000","detail":{"n":1},"detail-type":"message.posted","region":"here","resources":[],"source":"parley","time":"2027-01-15T08:00:00Z","version":"0"}`
	if text, _ := json.Marshal(got); string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// TestBusFilter: a subscriber gets the types that it asks for, live.
func TestBusFilter(t *testing.T) {
	t.Parallel()
	b, _ := memoryBus(t, vfs.NewMem(), 100)
	put(t, b, 1, 2)
	live := subscribe(t, b, "", "")
	reactions := subscribe(t, b, "&type=reaction.added&after=0", "")
	all := subscribe(t, b, "&type=room.created,message.*&type=reaction.added&after=0", "")
	none := subscribe(t, b, "&type=message&type=room.*,end.of_test&after=0", "")
	put(t, b, 3, 6)
	live.want(3, 4, 5, 6)
	reactions.want(3, 6)
	all.want(1, 2, 3, 4, 5, 6)
	if _, err := b.Publish(context.Background(), []stream.Entry{entry("end.of_test", 7)}); err != nil {
		t.Fatal(err)
	}
	none.want(7)
}

// TestBusResume: a subscriber resumes after its last entry, also after a restart, and after a crash
// that lost the last entries: no number is used twice.
func TestBusResume(t *testing.T) {
	t.Parallel()
	files := vfs.NewCrashableMem()
	b, stop := memoryBus(t, files, 100)
	put(t, b, 1, 5)
	s := subscribe(t, b, "&after=0", "")
	third := s.want(1, 2, 3)
	fifth := s.want(4, 5)
	if err := b.db.LogData(nil, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	put(t, b, 6, 8)
	eighth := s.want(6, 7, 8)
	crashed := files.CrashClone(vfs.CrashCloneCfg{})
	s.leave()
	stop()

	b, stop = memoryBus(t, crashed, 100)
	if got := readAll(t, b); !slices.Equal(got, []int{1, 2, 3, 4, 5}) {
		t.Fatalf("after the crash the archive holds %v", got)
	}
	put(t, b, 9, 10) // other entries than those that were taken back
	subscribe(t, b, "", third).want(4, 5, 9, 10)
	subscribe(t, b, "&after="+fifth, "").want(9, 10)
	subscribe(t, b, "&after=0", eighth).want(9, 10)
	late := subscribe(t, b, "", "")
	put(t, b, 11, 11)
	eleventh := late.want(11)

	// A crash that loses everything since the start does not take the start itself back.
	crashed = crashed.CrashClone(vfs.CrashCloneCfg{})
	late.leave()
	stop()
	b, _ = memoryBus(t, crashed, 100)
	put(t, b, 12, 13)
	subscribe(t, b, "", eleventh).want(12, 13)
	subscribe(t, b, "", third).want(4, 5, 12, 13)
}

func readAll(t *testing.T, b *bus) (ns []int) {
	t.Helper()
	p, err := b.read(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.entries {
		var detail struct{ N int }
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			t.Fatal(err)
		}
		ns = append(ns, detail.N)
	}
	return ns
}

// TestBusTrims: the last entries are kept, and a subscriber learns that others were trimmed.
func TestBusTrims(t *testing.T) {
	t.Parallel()
	files := vfs.NewMem()
	b, stop := memoryBus(t, files, 50)
	put(t, b, 1, 3)
	s := subscribe(t, b, "&after=0", "")
	third := s.want(1, 2, 3)
	s.leave()
	put(t, b, 4, 50+trimEvery+10)
	first := trimEvery + 1
	for range 2 { // as it is, and after a restart
		got := readAll(t, b)
		if got[0] != first || got[len(got)-1] != 50+trimEvery+10 || len(got) != 60 {
			t.Fatalf("the archive holds %d entries from %d", len(got), got[0])
		}
		for _, asks := range [][2]string{{"", third}, {"&after=0", ""}, {"&after=999999999", ""}} { // the last of another bus
			s := subscribe(t, b, asks[0], asks[1])
			resumed := subscribe(t, b, "", s.want(0)) // from the reset
			s.want(first, first+1)
			resumed.want(first, first+1)
			s.leave()
			resumed.leave()
		}
		stop()
		b, stop = memoryBus(t, files, 50)
	}
	put(t, b, 2000, 2000+3*trimEvery) // over the leap between two runs
	if got := readAll(t, b); len(got) < 50 || len(got) >= 50+trimEvery || got[len(got)-1] != 2000+3*trimEvery {
		t.Errorf("the archive holds %d entries", len(got))
	}
}

// TestBusLimits are those of PutEvents.
func TestBusLimits(t *testing.T) {
	t.Parallel()
	b, _ := memoryBus(t, vfs.NewMem(), 100)
	big := entry("a", 1)
	big.Detail = json.RawMessage(`"` + strings.Repeat("x", stream.MaxCallBytes-len("parley")-1-14-2) + `"`)
	refused, err := b.Publish(t.Context(), []stream.Entry{big})
	if err != nil || refused[0] != nil {
		t.Errorf("a call of just the size: %v, %v", refused, err)
	}
	big.DetailType = "ab"
	calls := map[error][]stream.Entry{
		errCallTooLarge:   {big},
		errTooManyEntries: slices.Repeat([]stream.Entry{entry("a", 1)}, stream.MaxEntries+1),
	}
	for want, entries := range calls {
		if _, err := b.Publish(t.Context(), entries); err != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	noType, longType := entry("", 1), entry(strings.Repeat("x", maxDetailType+1), 1)
	noDetail, noSource := entry("a", 1), entry("a", 1)
	noDetail.Detail, noSource.Source = nil, ""
	refused, err = b.Publish(t.Context(), []stream.Entry{entry("a", 2), noType, longType, noDetail, noSource, entry(strings.Repeat("x", maxDetailType), 3)})
	if want := []error{nil, errIncomplete, errIncomplete, errIncomplete, errIncomplete, nil}; err != nil || !slices.Equal(refused, want) {
		t.Errorf("refused %v, %v", refused, err)
	}
}

// TestSlowSubscriber: a subscriber gets all entries at its own pace, page by page, while publishing goes on.
func TestSlowSubscriber(t *testing.T) {
	t.Parallel()
	b, _ := memoryBus(t, vfs.NewMem(), 10_000)
	slow := subscribe(t, b, "&after=0", "")
	put(t, b, 1, 5*ssePage)
	got, last := slow.numbers(5 * ssePage)
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("entry %d is %d", i+1, n)
		}
	}
	if head, _ := b.head(); last != strconv.FormatUint(head, 10) {
		t.Errorf("the last is %s, the bus is at %d", last, head)
	}
}

func BenchmarkPublish(b *testing.B) {
	db := openMemory(b)
	defer db.Close()
	bus, err := openBus(db, nil, defaultArchive)
	if err != nil {
		b.Fatal(err)
	}
	e := entry("message.posted", 1)
	e.Detail = json.RawMessage(`{"text":"` + strings.Repeat("x", 400) + `"}`)
	entries := slices.Repeat([]stream.Entry{e}, stream.MaxEntries)
	for b.Loop() {
		if _, err := bus.Publish(context.Background(), entries); err != nil {
			b.Fatal(err)
		}
	}
}
