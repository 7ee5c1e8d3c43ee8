package projections

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"time"

	"parley/events"
	"parley/events/keys"
)

const (
	// Window is how long before the time of a cursor segments were written that it may not have seen: the
	// time to store one, what the clocks of a region's processes differ by, and the age of a stale read.
	Window = 30 * time.Second
	// Rewind is how far a cursor of another region goes back, at least. What arrives in any region later
	// than that is named by a late notice.
	Rewind = 15 * time.Minute
	// MaxPlaces bounds the exact places of a cursor. Of further feeds with something new within Window a
	// client receives what is in it again.
	MaxPlaces = 128

	// syncRows bounds the rows of a user's rooms that one call reads.
	syncRows = 5000
	// syncBytes bounds the stored content that one call returns: it ends with the event that passes it.
	syncBytes = 256 << 10
	// lookBack is how far back it is looked where the times of arrival do not say what a client knows: in a
	// feed that was lost and made again, and for changes of memberships, of which another region may not
	// have known.
	lookBack = 24 * time.Hour
	// holdFor is how long an event waits for the key of its content, which replicates separately.
	holdFor = 30 * time.Second
)

// Cursor is how far a client has come in the feeds of its user's rooms and in those of the user, decoded.
// It was given by one region and is valid in all.
type Cursor struct {
	Region string // "": none, everything is to be loaded again
	// At is when, by the clock of the region: everything that had arrived in these feeds until then, less
	// Window, was delivered.
	At time.Time
	// Places are the feeds of which more is known, exactly: those with something new in the Window.
	Places map[FeedTag]Place
	// Low is the frontier of the heartbeats by then, see [LoadLow]; zero: not known. A sync in another region
	// continues from it.
	Low time.Time

	// A catch-up of several pages reads one feed after the other, in the order of their names. Until is
	// when it began, zero if none is under way, After is the last feed that is read to its end, and Entered
	// says that it began with a cursor of another region.
	Until   time.Time
	After   events.Stream
	Entered bool
}

// FeedTag identifies a feed in a cursor: a digest of its stream and its epoch.
type FeedTag [8]byte

// Place is how far a client has come in one feed.
type Place struct {
	Position uint64 // of the last event that was delivered
	// Part is how far within the next entry, if that stands for several events: the number of those, or in
	// the feed of memberships one more than the position in the room's feed.
	Part uint64
	At   time.Time // when that event arrived
}

func tagOf(feed events.Stream, epoch string) (tag FeedTag) {
	sum := sha256.Sum256([]byte(string(feed) + " " + epoch))
	copy(tag[:], sum[:])
	return tag
}

// Happened is an event as it arrived in this region.
type Happened struct {
	Event    events.Event
	Position uint64 // in the feed of the event's stream; 0: it has none, or the user may not know it
}

// Page is what happened, and the cursor behind it.
type Page struct {
	Events []Happened
	Cursor Cursor
	More   bool // there is more already
	Held   bool // an event waits for a key: look again soon
}

// Syncer lists what happened since a cursor, in one region.
type Syncer struct {
	Region string
	Log    events.Log
	Views  Views
	Keys   *keys.Ring       // an event waits a moment for the key of its content; nil: none waits
	Now    func() time.Time // time.Now if nil
}

func (s Syncer) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// Current returns the cursor behind all that has arrived for a user in this region.
func (s Syncer) Current(ctx context.Context, user string) (Cursor, error) {
	at := s.now()
	var rooms []string
	_, err := EachRoomOf(ctx, s.Views, user, "", MaxRows, func(m Member) bool {
		if m.In {
			rooms = append(rooms, m.Room)
		}
		return true
	})
	if err != nil {
		return Cursor{}, err
	}
	feeds := FeedsOf(user, rooms...)
	heads, err := LoadHeads(ctx, s.Views, feeds...)
	if err != nil {
		return Cursor{}, err
	}
	return s.Behind(ctx, at, feeds, heads)
}

// FeedsOf names the feeds of rooms, in their order, and behind them those of a user: of the user's stream
// and of the memberships.
func FeedsOf(user string, rooms ...string) []events.Stream {
	feeds := make([]events.Stream, 0, len(rooms)+2)
	for _, room := range rooms {
		feeds = append(feeds, events.RoomStream(room))
	}
	return append(feeds, events.UserStream(user), membershipFeed(user))
}

// Behind returns the cursor behind the heads of feeds, which were read at a time or later, and behind all
// that had arrived in other feeds by then.
func (s Syncer) Behind(ctx context.Context, at time.Time, streams []events.Stream, heads []Head) (Cursor, error) {
	c := Cursor{Region: s.Region, At: at, Places: map[FeedTag]Place{}}
	for i, h := range heads {
		if h.Position > 0 {
			c.Places[tagOf(streams[i], h.epoch)] = Place{Position: h.Position, At: h.At}
		}
	}
	var err error
	c.Low, err = LoadLow(ctx, s.Views, at)
	c.prune()
	return c, err
}

// prune drops the places that the cursor's time makes unnecessary, and those that are too many, the
// oldest first.
func (c *Cursor) prune() {
	maps.DeleteFunc(c.Places, func(_ FeedTag, p Place) bool { return p.At.Before(c.At.Add(-Window)) })
	if len(c.Places) <= MaxPlaces {
		return
	}
	latest := slices.SortedFunc(maps.Keys(c.Places), func(a, b FeedTag) int {
		return cmp.Or(c.Places[b].At.Compare(c.Places[a].At), slices.Compare(a[:], b[:]))
	})
	for _, tag := range latest[MaxPlaces:] {
		delete(c.Places, tag)
	}
}

// Since returns what happened in the user's rooms, and in the user's own stream, after a cursor: at most
// limit events, and the cursor up to which that is all. The events of a stream are in the order in which
// they arrived here; one stream follows the other. Of a room that the user is not in now, only what changed
// that is returned.
//
// From a cursor of this region each event is returned once, except what [MaxPlaces] says and what arrived
// before the membership that makes it visible: that is returned when the membership arrives. From a cursor
// of another region it may repeat events, but omits none that either region has handled.
func (s Syncer) Since(ctx context.Context, user string, from Cursor, limit int) (Page, error) {
	p := &pass{Syncer: s, user: user, limit: limit, to: s.enter(from)}
	full := false
	// A catch-up that began in another call knows nothing of what arrived since in the feeds it read first: it
	// goes through them once more.
	for began := from.Until; ; began = (time.Time{}) {
		var err error
		if full, err = p.run(ctx); err != nil {
			return Page{Cursor: from}, err
		}
		if full {
			break
		}
		p.to.At, p.to.Until, p.to.After, p.to.Entered = p.to.Until, time.Time{}, "", false
		if began.IsZero() {
			break
		}
		p.to.Until = s.now()
	}
	if !full {
		var err error
		if p.to.Low, err = LoadLow(ctx, s.Views, p.to.At); err != nil {
			return Page{Cursor: from}, err
		}
	}
	p.to.prune()
	return Page{Events: p.what, Cursor: p.to, More: full, Held: p.held}, nil
}

// enter returns where a cursor continues in this region.
func (s Syncer) enter(from Cursor) Cursor {
	to := from
	to.Places = maps.Clone(from.Places)
	if from.Region != s.Region {
		at := from.At
		if !from.Low.IsZero() && from.Low.Before(at) {
			at = from.Low
		}
		to = Cursor{Region: s.Region, At: at.Add(Window - Rewind), Low: from.Low, Entered: true}
	}
	if to.Places == nil {
		to.Places = map[FeedTag]Place{}
	}
	if to.Until.IsZero() {
		to.Until = s.now()
	}
	return to
}

// pass goes once through the feeds of a user, as far as one page reaches.
type pass struct {
	Syncer
	user  string
	limit int

	to   Cursor
	what []Happened
	size int // of their content
	held bool
}

// base is since when segments are read of feeds that the cursor says nothing of.
func (p *pass) base() time.Time { return p.to.At.Add(-Window) }

func (p *pass) room() int {
	if p.size >= syncBytes {
		return 0
	}
	return p.limit - len(p.what)
}

// run reads the feeds behind p.to.After. It reports whether it ended before the last.
func (p *pass) run(ctx context.Context) (full bool, err error) {
	const rooms, users = "room/", "user/" // between them are the names of rooms' feeds, behind that of memberships
	if memberships := membershipFeed(p.user); p.to.After < memberships {
		since := p.base()
		if p.to.Entered {
			since = since.Add(-lookBack)
		}
		if full, err = p.read(ctx, wanted{memberships, since}); full || err != nil {
			return full, err
		}
	}
	for rows := 0; p.to.After < users; {
		if rows >= syncRows {
			return true, nil
		}
		after := ""
		if room, is := strings.CutPrefix(string(p.to.After), rooms); is {
			after = room
		}
		list, err := ListRoomsOf(ctx, p.Views, p.user, after, rowsAtOnce)
		if err != nil {
			return false, err
		}
		var feeds []wanted
		for _, m := range list {
			if m.In {
				feeds = append(feeds, wanted{events.RoomStream(m.Room), p.since(m)})
			}
		}
		if full, err := p.read(ctx, feeds...); full || err != nil {
			return full, err
		}
		if len(list) < rowsAtOnce {
			break
		}
		p.to.After = events.RoomStream(list[len(list)-1].Room)
		rows += len(list)
	}
	return p.read(ctx, wanted{events.UserStream(p.user), p.base()})
}

// wanted is a feed to be read, since a time if the cursor says nothing of it.
type wanted struct {
	feed  events.Stream
	since time.Time
}

// source is a feed of which something may be new.
type source struct {
	feed    events.Stream
	tag     FeedTag
	head    *segment // nil: there is no feed yet
	place   Place    // how far it was read
	entries []newEntry
	cut     bool // there are more
	events  map[events.Key]events.Event
	members map[string]Member // by room, in the feed of memberships
}

// read reads some feeds, in the order of their names, and goes on behind the last.
func (p *pass) read(ctx context.Context, feeds ...wanted) (full bool, err error) {
	sources := make([]*source, len(feeds))
	err = each(ctx, len(feeds), readAtOnce, func(ctx context.Context, i int) (err error) {
		sources[i], err = p.look(ctx, feeds[i], p.room())
		return err
	})
	if err != nil {
		return false, err
	}
	room := p.room()
	var news []*source
	for _, s := range sources {
		if len(s.entries) > room {
			s.entries, s.cut = s.entries[:room], true
		}
		if room -= len(s.entries); len(s.entries) > 0 {
			news = append(news, s)
		}
	}
	if err := each(ctx, len(news), readAtOnce, func(ctx context.Context, i int) error { return p.load(ctx, news[i]) }); err != nil {
		return false, err
	}
	for i, s := range sources {
		if s.cut && len(s.entries) < p.room() { // of those before, some wait for a key, and leave room
			if s, err = p.look(ctx, feeds[i], p.room()); err == nil && len(s.entries) > 0 {
				err = p.load(ctx, s)
			}
			if err != nil {
				return false, err
			}
		}
		if full, err := p.take(ctx, s); full || err != nil {
			return full, err
		}
		p.to.After = s.feed
	}
	return false, nil
}

// look reads what is new in a feed, at most so many entries.
func (p *pass) look(ctx context.Context, of wanted, most int) (*source, error) {
	feed := of.feed
	head, err := loadHead(ctx, p.Views, feed, true)
	if err != nil || head == nil {
		return &source{feed: feed}, err
	}
	s := &source{feed: feed, tag: tagOf(feed, head.Epoch), head: head}
	place, listed := p.to.Places[s.tag]
	s.place = place
	switch {
	case listed && head.end()-1 <= place.Position, !listed && unixMilli(head.At).Before(of.since):
		return s, nil
	case listed:
		s.entries, err = entriesBehind(ctx, p.Views, feed, head, place.Position, most+1)
	default:
		s.entries, err = entriesSince(ctx, p.Views, feed, head, of.since, most+1)
	}
	if err == nil && len(s.entries) > most {
		s.entries, s.cut = s.entries[:most], true
	}
	return s, err
}

// load reads the events of a source's entries, and in the feed of memberships the memberships.
func (p *pass) load(ctx context.Context, s *source) error {
	if s.feed != membershipFeed(p.user) {
		var err error
		s.events, err = p.eventsOf(ctx, s.feed, s.entries)
		return err
	}
	keys := make([]events.Key, len(s.entries))
	members := make([]Key, len(s.entries))
	for i, e := range s.entries {
		keys[i] = e.Ref.In(e.Stream)
		members[i] = memberKey(e.Stream.Name(), p.user)
	}
	slices.SortFunc(members, func(a, b Key) int { return strings.Compare(a.Partition, b.Partition) })
	members = slices.Compact(members)
	states, err := load[member](ctx, p.Views, members)
	if err != nil {
		return err
	}
	s.members = map[string]Member{}
	for i, state := range states {
		room := strings.TrimPrefix(members[i].Partition, membersOfRoom)
		s.members[room] = state.read(room, p.user)
	}
	s.events, err = p.Log.GetMany(ctx, keys)
	return err
}

// eventsOf reads the events of entries of one stream. Mostly they are neighbours in the log, where a range
// costs less than each by its key.
func (s Syncer) eventsOf(ctx context.Context, stream events.Stream, entries []newEntry) (map[events.Key]events.Event, error) {
	found := make(map[events.Key]events.Event, len(entries))
	missing := make([]events.Key, 0, len(entries))
	low, high := entries[0].Ref.ID, entries[0].Ref.ID
	for _, e := range entries {
		missing = append(missing, e.Ref.In(stream))
		if e.Ref.ID.Compare(low) < 0 {
			low = e.Ref.ID
		}
		if e.Ref.ID.Compare(high) > 0 {
			high = e.Ref.ID
		}
	}
	if n := len(entries); n > 1 {
		r := events.Range{After: events.PrecedingID(low), Before: events.FollowingID(high), Limit: n + n/2, Stale: true}
		for e, err := range s.Log.Read(ctx, stream, r) {
			if err != nil {
				return nil, err
			}
			found[e.Key()] = e
		}
		missing = slices.DeleteFunc(missing, func(key events.Key) bool { _, there := found[key]; return there })
	}
	if len(missing) > 0 {
		got, err := s.Log.GetMany(ctx, missing)
		if err != nil {
			return nil, err
		}
		maps.Copy(found, got)
	}
	return found, nil
}

// take adds the events of a source to the page, as far as they fit.
func (p *pass) take(ctx context.Context, s *source) (full bool, err error) {
	if s.head == nil {
		return false, nil
	}
	_, listed := p.to.Places[s.tag]
	if !listed && len(s.entries) > 0 {
		s.place.Position = s.entries[0].Position - 1
	}
	for _, e := range s.entries {
		parts, err := p.expand(ctx, s, e)
		if err != nil {
			return false, err
		}
		for _, part := range parts {
			if part.at <= s.place.Part {
				continue
			}
			waits, err := p.waits(ctx, part.Event, e.at)
			switch {
			case err != nil:
				return false, err
			case waits || p.room() <= 0:
				p.held = p.held || waits
				p.to.Places[s.tag] = Place{s.place.Position, s.place.Part, p.to.Until}
				return !waits, nil
			}
			p.what = append(p.what, part.Happened)
			p.size += len(part.Event.Data)
			s.place.Part = part.at
		}
		s.place = Place{Position: e.Position, At: e.at}
	}
	if s.cut {
		if listed || len(s.entries) > 0 {
			p.to.Places[s.tag] = Place{s.place.Position, 0, p.to.Until}
		}
		return true, nil
	}
	if end := s.head.end() - 1; s.place.Position < end { // nothing was new
		s.place = Place{Position: end, At: unixMilli(s.head.At)}
	}
	p.to.Places[s.tag] = s.place
	return false, nil
}

// waits reports whether an event has to wait for the key of its content, which has not come here yet.
func (p *pass) waits(ctx context.Context, e events.Event, arrived time.Time) (bool, error) {
	if p.Keys == nil || p.to.Until.Sub(arrived) > holdFor {
		return false, nil
	}
	missing, err := p.Keys.Misses(ctx, e)
	return missing, err
}

// part is one of the events that an entry of a feed stands for.
type part struct {
	Happened
	at uint64 // greater than that of the part before; see [Place]
}

// expand returns the events that an entry stands for.
func (p *pass) expand(ctx context.Context, s *source, e newEntry) ([]part, error) {
	stream := cmp.Or(e.Stream, s.feed)
	event, there := s.events[e.Ref.In(stream)]
	switch {
	case !there || e.Old && e.Ref.ID.Timestamp().Before(p.base().Add(-lookBack)):
		return nil, nil
	case e.Stream != "":
		return p.expandMembership(ctx, s, e, event)
	case e.Position <= p.to.Places[passedTag(s.feed, s.head.Epoch)].Position && slices.Contains(MembersOf(event), p.user):
		return nil, nil
	}
	all, err := ExpandLate(ctx, p.Log, p.Region, event)
	parts := make([]part, len(all))
	for i, e2 := range all {
		parts[i] = part{Happened{e2, e.Position}, uint64(i + 1)}
	}
	return parts, err
}
