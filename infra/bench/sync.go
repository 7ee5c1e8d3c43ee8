package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/pebblelog"
	"parley/functions"
	"parley/functions/api"
	"parley/functions/live"
	"parley/functions/live/dynamoconns"
	"parley/functions/wire"
	"parley/projections"
	"parley/projections/dynamoview"
)

const (
	// syncNews is how many messages a catch-up returns, and syncFew and syncMany are of how many rooms its
	// caller is a member.
	syncNews = 100
	syncFew  = 20
	syncMany = 2000
	// syncOthers is how many rooms the other messages are spread over.
	syncOthers = 1000
	// reader is who catches up.
	reader = "reader"
)

// sync measures a catch-up after much has happened elsewhere: how long it takes on the embedded stores, and
// what it reads on DynamoDB.
func (b *bench) sync(ctx context.Context) error {
	if err := b.syncEmbedded(ctx); err != nil {
		return err
	}
	return onDynamoDB(ctx, func(place dynamolocal.Endpoint) error {
		b.printf("   read units on DynamoDB              %d events   nothing new   subscribe   ping   list of rooms   with these unread\n", syncNews)
		for _, m := range []struct{ rooms, others int }{{syncFew, 0}, {syncFew, 20 * syncOthers}, {syncMany, 0}} {
			c, err := measureSync(ctx, place, m.rooms, m.others)
			if err != nil {
				return err
			}
			b.printf("     %4d rooms, %6d events in others   %10.1f   %11.1f   %9.1f   %4.1f   %13.1f   %17.1f\n",
				m.rooms, m.others, c.News, c.Nothing, c.Subscribe, c.Ping, c.Rooms, c.RoomsUnread)
		}
		b.printf("     (0: not measured)\n")
		return nil
	})
}

// syncEmbedded prints how long a catch-up takes in a running infra/local, over HTTP.
func (b *bench) syncEmbedded(ctx context.Context) error {
	data := filepath.Join(b.dir, "sync")
	p, c, err := b.startLocal(ctx, data, 1)
	if err != nil {
		return err
	}
	rooms, cursor, err := c.joinRooms(ctx, syncFew)
	p.stop()
	if err != nil {
		return err
	}
	if err := appendNews(ctx, filepath.Join(data, meteredRegion, "log"), rooms, b.others); err != nil {
		return err
	}
	start := time.Now()
	if p, c, err = b.startLocal(ctx, data, 1); err != nil {
		return err
	}
	defer p.stop()
	building, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	path := c.regions[0].URL + "/v1/sync?limit=200&cursor="
	var page wire.SyncPage
	get := func(cursor string) error {
		page = wire.SyncPage{}
		return c.must(ctx, "GET", path+url.QueryEscape(cursor), reader, nil, &page)
	}
	if err := poll(building, 100*time.Millisecond, func() (bool, error) {
		err := get(cursor)
		return messagesIn(page) == syncNews, err
	}); err != nil {
		return fmt.Errorf("wait for %d events: %w", syncNews, err)
	}
	b.printf("   %d events in %d other rooms, handled in %.1f s\n", b.others, syncOthers, time.Since(start).Seconds())
	news, err := timed(func() error { return get(cursor) })
	if err != nil {
		return err
	}
	if messagesIn(page) != syncNews || page.More || page.Reset {
		return errors.New("a catch-up is not complete")
	}
	nothing, err := timed(func() error { return get(page.Cursor) })
	if err != nil {
		return err
	}
	if len(page.Events) > 0 || page.More || page.Reset {
		return errors.New("there is something new that nobody sent")
	}
	b.printf("   a sync of %d events in %d rooms: %s; of nothing new: %s (medians)\n", syncNews, syncFew, news, nothing)
	return nil
}

// messagesIn counts the messages of a page. On a slow machine there are late notices beside them.
func messagesIn(page wire.SyncPage) (n int) {
	for _, h := range page.Events {
		if h.Event.Type == "message.posted" {
			n++
		}
	}
	return n
}

// timed returns the median time of a call that is made many times.
func timed(do func() error) (time.Duration, error) {
	const times = 101
	var took delays
	for range times {
		start := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[times/2].Round(10 * time.Microsecond), nil
}

// joinRooms makes rooms of the reader, and returns them and a cursor behind that.
func (c *client) joinRooms(ctx context.Context, n int) (rooms []events.Stream, cursor string, err error) {
	var created struct{ ID string }
	for range n {
		if err := c.must(ctx, "POST", c.regions[0].URL+"/v1/rooms", reader, map[string]any{"name": "bench"}, &created); err != nil {
			return nil, "", err
		}
		if err := c.must(ctx, "GET", c.regions[0].URL+"/v1/rooms/"+created.ID, reader, nil, nil); err != nil {
			return nil, "", err
		}
		rooms = append(rooms, events.RoomStream(created.ID))
	}
	var list struct{ Cursor string }
	return rooms, list.Cursor, poll(ctx, 50*time.Millisecond, func() (bool, error) {
		// Until all of it has come through the change stream, a sync returns it.
		if err := c.must(ctx, "GET", c.regions[0].URL+"/v1/rooms?limit=200", reader, nil, &list); err != nil {
			return false, err
		}
		cursor = list.Cursor
		if err := events.Sleep(ctx, 200*time.Millisecond); err != nil {
			return false, err
		}
		var page wire.SyncPage
		err := c.must(ctx, "GET", c.regions[0].URL+"/v1/sync?limit=200&cursor="+url.QueryEscape(cursor), reader, nil, &page)
		return len(page.Events) == 0, err
	})
}

// appendNews appends so many messages in other rooms to a log, and among them [syncNews] in rooms.
func appendNews(ctx context.Context, dir string, rooms []events.Stream, others int) (err error) {
	log, err := pebblelog.Open(dir, pebblelog.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	all := newsAmong(rooms, others)
	return forEach(ctx, len(all), 256, func(ctx context.Context, i int) error {
		e, err := message(clock, i, all[i])
		if err == nil {
			_, _, err = log.Append(ctx, e)
		}
		return err
	})
}

// newsAmong returns the rooms of messages: of so many in other rooms, and of [syncNews] spread evenly among
// them and over rooms.
func newsAmong(rooms []events.Stream, others int) []events.Stream {
	all := make([]events.Stream, 0, others+syncNews)
	for i := range syncNews {
		for len(all)-i < others*(i+1)/syncNews {
			other := len(all) % syncOthers
			all = append(all, events.RoomStream(events.ID{1, 14: byte(other / 256), 15: byte(other)}.String()))
		}
		all = append(all, rooms[i%len(rooms)])
	}
	return all
}

// message makes the i-th message, in a room.
func message(clock *events.Clock, i int, room events.Stream) (events.Event, error) {
	author := user(i % 50)
	id, err := clock.Mint(author)
	if err != nil {
		return events.Event{}, err
	}
	return events.New(id, room, author, meteredRegion, events.MessagePosted{Text: events.Plain(text)})
}

// syncCost is what a client in some rooms that catches up costs, in read units.
type syncCost struct {
	News    float64 // a sync that returns [syncNews] events
	Nothing float64 // a sync with nothing new; a long poll makes one a second

	// A socket that listens to all of the rooms: when it subscribes, and for each ping.
	Subscribe, Ping float64

	// The list of the rooms, if nothing is unread, and if the news are.
	Rooms, RoomsUnread float64
}

// measureSync measures clients in some rooms, after so many events in other rooms. Each of the new events comes
// in another batch, and so is a segment of its own in its feed. News are not measured in very many rooms.
func measureSync(ctx context.Context, place dynamolocal.Endpoint, rooms, others int) (c syncCost, err error) {
	r, err := openMetered(ctx, place)
	if err != nil {
		return c, err
	}
	mine := make([]events.Stream, rooms)
	var before []events.Event
	for i := range mine {
		room, err := r.newEvent("owner", "", events.RoomCreated{Name: "a room"})
		if err != nil {
			return c, err
		}
		joined, err := r.newEvent(reader, room.Stream, events.MemberJoined{User: reader, Role: events.RoleMember})
		if err != nil {
			return c, err
		}
		mine[i], before = room.Stream, append(before, room, joined)
	}
	if err := r.assume(ctx, before); err != nil {
		return c, err
	}
	clients, err := r.clients(ctx)
	if err != nil {
		return c, err
	}
	var list struct{ Cursor string }
	sync := func(want int) (float64, error) {
		var page wire.SyncPage
		r.meter.Take()
		err := clients.get(ctx, "/v1/sync?limit=200&cursor="+url.QueryEscape(list.Cursor), &page)
		if err == nil && (len(page.Events) != want || page.More || page.Reset) {
			err = fmt.Errorf("a sync returned %d events of %d", len(page.Events), want)
		}
		return r.used("views").read, err
	}
	listRooms := func() (float64, error) {
		r.meter.Take()
		err := clients.get(ctx, "/v1/rooms?limit=200", &list)
		return r.used("views").read, err
	}
	if c.Rooms, err = listRooms(); err != nil {
		return c, err
	}
	if rooms <= projections.MaxPlaces { // of more, a sync may repeat what is in them
		if err := r.assumeNews(ctx, mine, others); err != nil {
			return c, err
		}
		if c.News, err = sync(syncNews); err != nil {
			return c, err
		}
	}
	clients.ahead = 2 * projections.Window
	unread, err := listRooms()
	if err != nil {
		return c, err
	}
	if c.News > 0 {
		c.RoomsUnread = unread
	}
	if c.Nothing, err = sync(0); err != nil {
		return c, err
	}
	for _, f := range []struct {
		text string
		read *float64
	}{{`{"action":"subscribe"}`, &c.Subscribe}, {`{"action":"ping"}`, &c.Ping}} {
		r.meter.Take()
		if err := clients.frame(ctx, f.text); err != nil {
			return c, err
		}
		*f.read = r.used("views").read
	}
	return c, nil
}

// assumeNews handles messages in other rooms, and among them [syncNews] in rooms.
func (r *metered) assumeNews(ctx context.Context, rooms []events.Stream, others int) error {
	var batch []events.Event
	for i, room := range newsAmong(rooms, others) {
		e, err := message(r.clock, i, room)
		if err != nil {
			return err
		}
		if batch = append(batch, e); slices.Contains(rooms, room) {
			if err := r.assume(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

// clients are the functions of a region that a connected reader calls.
type clients struct {
	*metered
	region *functions.Region
	ahead  time.Duration // of the clock of the functions
	posted []byte        // the last frame
}

func (r *metered) clients(ctx context.Context) (*clients, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	cursors, err := api.NewCursors(key)
	if err != nil {
		return nil, err
	}
	cfg := r.meter.Watch(r.place.Config(meteredRegion))
	if err := dynamoconns.CreateTable(ctx, cfg, "connections"); err != nil {
		return nil, err
	}
	c := &clients{metered: r}
	c.region = functions.New(functions.Parts{
		Region: meteredRegion, Log: r.log, Views: dynamoview.New(cfg, "views"), Clock: r.clock, Keys: r.ring, Auth: r.auth, Cursors: cursors,
		Connections: dynamoconns.New(cfg, "connections"), Sockets: c, Now: func() time.Time { return time.Now().Add(c.ahead) },
	})
	c.region.Generations.Fresh = time.Hour
	token, err := r.token(reader)
	if err != nil {
		return nil, err
	}
	return c, c.region.Live().Connect(ctx, reader, http.Header{"Authorization": {"Bearer " + token}})
}

// get gets a path as the reader.
func (c *clients) get(ctx context.Context, path string, out any) error {
	got, err := c.call(ctx, c.region.API().Handler(), "GET", path, reader, "")
	if err != nil {
		return err
	}
	return json.Unmarshal(got, out)
}

// frame sends a frame as the reader. It fails if the answer is an error.
func (c *clients) frame(ctx context.Context, text string) error {
	if err := c.region.Live().Frame(ctx, reader, []byte(text)); err != nil {
		return err
	}
	var answer struct{ Type, Code string }
	err := json.Unmarshal(c.posted, &answer)
	if err == nil && answer.Code != "" {
		err = errors.New("a frame was refused: " + answer.Code)
	}
	return err
}

// Post implements [live.Sockets].
func (c *clients) Post(_ context.Context, _ string, f live.Frame) error {
	c.posted = f.Bytes()
	return nil
}

// Close implements [live.Sockets].
func (c *clients) Close(_ context.Context, _ string, code live.Code) error {
	return fmt.Errorf("the socket was closed: %s", code.Detail())
}
