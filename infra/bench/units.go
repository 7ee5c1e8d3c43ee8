package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolog"
	"parley/events/keys"
	"parley/events/keys/dynamokeys"
	"parley/functions"
	"parley/functions/api"
	"parley/functions/stream"
	"parley/projections/dynamoview"
)

// units prints what each type of event costs on DynamoDB, and what the messages of a conversation cost
// on average.
func (b *bench) units(ctx context.Context) error {
	lines, err := readConversation(b.conversation)
	if err != nil {
		return err
	}
	return onDynamoDB(ctx, func(place dynamolocal.Endpoint) error {
		for _, batch := range batches {
			b.printf("   %-28s %s\n", batchName(batch), heading)
			for _, k := range kinds() {
				if batch > 1 && k.alone {
					continue
				}
				c, err := k.measure(ctx, place, batch)
				if err != nil {
					return fmt.Errorf("%s: %w", k.name, err)
				}
				b.printf("     %-26s %s\n", k.name, c)
			}
		}
		costs, err := measureConversation(ctx, place, lines)
		if err != nil {
			return err
		}
		b.printf("\n   each of the %d messages of %s:\n   %-28s %s\n", len(lines), b.conversation, "", heading)
		for _, batch := range batches {
			b.printf("   %-28s %s\n", batchName(batch), costs[batch])
		}
		return nil
	})
}

// batches are the sizes of the stream's batches under which events are measured: one by one, as in
// sparse traffic, and full ones.
var batches = [...]int{1, 100, 1000}

func batchName(batch int) string {
	if batch == 1 {
		return "sparse: one by one"
	}
	return fmt.Sprintf("full: batches of %d", batch)
}

// cost is what one event costs in one region on average, in request units: writes to the log and to
// the views, reads by the command and by the stream function.
type cost struct{ Log, Views, Command, Stream float64 }

const heading = "  log   views  writes   read by command  by stream"

func (c cost) writes() float64 { return c.Log + c.Views }

func (c cost) String() string {
	return fmt.Sprintf("%5.3f   %5.3f   %5.3f   %15.3f  %9.3f", c.Log, c.Views, c.writes(), c.Command, c.Stream)
}

// kind is a type of event and the command that leads to it. In the i-th command {user} is the i-th
// user, {room} a room of theirs, {message} a message of theirs, {guest} a user without rooms, {id} a
// new id of theirs, and {text} a text.
type kind struct {
	name     string // the type, and what is special about the event
	command  string // method and path; "" if no command leads to it
	by       string // the sender; "" is the user
	body     string // JSON
	messages bool   // needs messages
	banned   bool   // needs banned users
	alone    bool   // comes one by one
	// event makes an event of the region itself; nil for commands and heartbeats.
	event func(s *scene, i int) (events.Event, error)
}

func kinds() []kind {
	const room, member, message = "/v1/rooms/{room}", "/v1/rooms/{room}/members/", "/v1/rooms/{room}/messages/{message}"
	return []kind{
		{name: "message.posted", command: "POST " + room + "/messages", body: `{"text":"{text}"}`},
		{name: "message.posted, id by client", command: "PUT " + room + "/messages/{id}", body: `{"text":"{text}"}`},
		{name: "message.posted in a thread", command: "POST " + room + "/messages", body: `{"text":"{text}","thread":"{message}"}`, messages: true},
		{name: "message.edited", command: "PATCH " + message, body: `{"text":"{text}"}`, messages: true},
		{name: "message.deleted", command: "DELETE " + message, messages: true},
		{name: "message.pinned", command: "PUT " + message + "/pin", messages: true},
		{name: "message.unpinned", command: "DELETE " + message + "/pin", messages: true},
		{name: "reaction.added", command: "PUT " + message + "/reactions/:tada:", messages: true},
		{name: "reaction.removed", command: "DELETE " + message + "/reactions/:tada:", messages: true},
		{name: "room.read", command: "PUT " + room + "/read", body: `{"up_to":"{message}"}`, messages: true},
		{name: "room.marked_unread", command: "PUT " + room + "/unread", body: `{"from":"{message}"}`, messages: true},
		{name: "room.created", command: "POST /v1/rooms", body: `{"name":"a room","topic":"{text}"}`},
		{name: "room.created direct", command: "PUT /v1/direct/{guest}"},
		{name: "room.updated", command: "PATCH " + room, body: `{"topic":"{user}"}`, by: "owner"},
		{name: "room.archived", command: "PATCH " + room, body: `{"archived":true}`, by: "owner"},
		{name: "room.unarchived", command: "PATCH " + room, body: `{"archived":false}`, by: "owner"},
		{name: "member.invited", command: "PUT " + member + "{guest}", by: "owner"},
		{name: "member.joined", command: "PUT " + member + "{guest}", by: "{guest}"},
		{name: "member.left", command: "DELETE " + member + "{user}"},
		{name: "member.role_changed", command: "PATCH " + member + "{user}", body: `{"role":"admin"}`, by: "owner"},
		{name: "member.banned", command: "PUT " + room + "/bans/{user}", by: "owner"},
		{name: "member.unbanned", command: "DELETE " + room + "/bans/{user}", by: "owner", banned: true},
		{name: "user.profile_set", command: "PUT /v1/users/{user}", body: `{"name":"{user}","about":"{text}"}`},
		{name: "region.beat", alone: true},
		{name: "event.late", messages: true, event: func(s *scene, i int) (events.Event, error) {
			message, err := events.Get(context.Background(), s.log, events.RoomStream(s.rooms[i%sceneRooms]), s.messages[i])
			if err != nil {
				return events.Event{}, err
			}
			return events.LateNotice(meteredRegion, message.Stream, message.ID.Timestamp(), fmt.Sprint(i), []events.Ref{message.Ref()})
		}},
		{name: "ops.acted", event: func(s *scene, i int) (events.Event, error) {
			return s.newEvent("owner", events.OpsStream(meteredRegion), events.OpsActed{What: "job.start", Target: user(i)})
		}},
		{name: "user.erased", event: func(s *scene, i int) (events.Event, error) {
			return s.newEvent(user(i), events.UserStream(user(i)), events.UserErased{By: "owner"})
		}},
	}
}

func user(i int) string { return fmt.Sprintf("user-%04d", i) }

// measure triggers events of a kind, handles them in batches and returns the average cost of each. For
// batches of one it triggers a few.
func (k kind) measure(ctx context.Context, place dynamolocal.Endpoint, batch int) (cost, error) {
	r, err := openMetered(ctx, place)
	if err != nil {
		return cost{}, err
	}
	n := max(batch, 2*sceneRooms)
	s, err := r.prepare(ctx, k, n)
	if err != nil {
		return cost{}, err
	}
	atOnce := sceneRooms
	if k.alone {
		atOnce = 1
	}
	// The commands to one room follow each other: concurrent ones on one view can cost more.
	if err := forEach(ctx, sceneRooms, atOnce, func(ctx context.Context, room int) error {
		for i := room; i < n; i += sceneRooms {
			if err := k.trigger(ctx, s, i); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return cost{}, err
	}
	accepted, records := r.used("views"), r.log.take()
	if len(records) != n {
		return cost{}, errors.New("a command led to more or less than one event")
	}
	err = handleAll(ctx, r.stream, records, batch)
	return accepted.and(r.used("views"), n), err
}

// trigger sends the command that leads to the i-th event of a kind, or appends the event.
func (k kind) trigger(ctx context.Context, s *scene, i int) error {
	if k.event != nil {
		e, err := k.event(s, i)
		if err == nil {
			_, _, err = s.log.Append(ctx, e)
		}
		return err
	}
	if k.command == "" {
		return s.region.Beat(ctx)
	}
	id, err := s.clock.Mint(user(i))
	if err != nil {
		return err
	}
	names := []string{"{id}", id.String(), "{user}", user(i), "{guest}", fmt.Sprintf("guest-%04d", i), "{room}", s.rooms[i%sceneRooms], "{text}", text}
	if k.messages {
		names = append(names, "{message}", s.messages[i].String())
	}
	fill := strings.NewReplacer(names...)
	method, path, _ := strings.Cut(fill.Replace(k.command), " ")
	return s.send(ctx, method, path, fill.Replace(cmp.Or(k.by, "{user}")), fill.Replace(k.body))
}

// sceneRooms is how many rooms the events of a batch are spread over.
const sceneRooms = 4

// scene is what exists before events are measured.
type scene struct {
	*metered
	rooms    []string
	messages []events.ID // by user
}

// prepare makes the scene for n events of a kind.
func (r *metered) prepare(ctx context.Context, k kind, n int) (*scene, error) {
	s := &scene{metered: r}
	var all []events.Event
	for range sceneRooms {
		e, err := r.newEvent("owner", "", events.RoomCreated{Name: "a room"})
		if err != nil {
			return nil, err
		}
		s.rooms, all = append(s.rooms, e.ID.String()), append(all, e)
	}
	payloads := []func(user string) events.Payload{
		func(user string) events.Payload { return events.MemberJoined{User: user, Role: events.RoleMember} },
	}
	if k.banned {
		payloads = append(payloads, func(user string) events.Payload { return events.MemberBanned{User: user} })
	}
	if k.messages {
		payloads = append(payloads, func(string) events.Payload { return events.MessagePosted{Text: events.Plain(text)} })
	}
	for _, payload := range payloads {
		for i := range n {
			e, err := r.newEvent(user(i), events.RoomStream(s.rooms[i%sceneRooms]), payload(user(i)))
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
	}
	if k.messages {
		for _, e := range all[len(all)-n:] {
			s.messages = append(s.messages, e.ID)
		}
	}
	return s, r.assume(ctx, all)
}

// measureConversation posts a conversation and handles it under each size of batches, each into views
// of its own: the conversation is posted once.
func measureConversation(ctx context.Context, place dynamolocal.Endpoint, lines []line) (map[int]cost, error) {
	r, err := openMetered(ctx, place)
	if err != nil {
		return nil, err
	}
	names, authors := members(lines)
	rooms := map[string]string{}
	var before []events.Event
	for _, name := range names {
		room, err := r.newEvent("owner", "", events.RoomCreated{Name: name})
		if err != nil {
			return nil, err
		}
		rooms[name], before = room.ID.String(), append(before, room)
		for _, author := range authors[name] {
			e, err := r.newEvent(author, room.Stream, events.MemberJoined{User: author, Role: events.RoleMember})
			if err != nil {
				return nil, err
			}
			before = append(before, e)
		}
	}
	if err := r.assume(ctx, before); err != nil {
		return nil, err
	}
	if err := forEach(ctx, len(lines), 8, func(ctx context.Context, i int) error {
		body, err := json.Marshal(map[string]string{"text": lines[i].Text})
		if err != nil {
			return err
		}
		return r.send(ctx, "POST", "/v1/rooms/"+rooms[lines[i].Room]+"/messages", lines[i].Author, string(body))
	}); err != nil {
		return nil, err
	}
	accepted, records := r.used("views"), r.log.take()
	costs := map[int]cost{}
	for _, batch := range batches {
		table := fmt.Sprint("views-", batch)
		region, err := r.into(ctx, table)
		if err != nil {
			return nil, err
		}
		if err := handleAll(ctx, region.Stream(), records, batch); err != nil {
			return nil, err
		}
		costs[batch] = accepted.and(r.used(table), len(lines))
	}
	return costs, nil
}

// handleAll hands the records to the stream function in batches. It fails if one is parked, because
// then the costs are wrong.
func handleAll(ctx context.Context, h *stream.Handler, records []events.Record, batch int) error {
	bus := &countingBus{}
	h.Bus = bus
	for records := range slices.Chunk(records, batch) {
		if _, err := h.Handle(ctx, records); err != nil {
			return err
		}
	}
	if int(bus.published.Load()) != len(records) {
		return errors.New("an event was not published but parked")
	}
	return nil
}

const meteredRegion = "us-east-1"

// metered is a region on DynamoDB, under a key of its own, whose calls are counted. Calls to the table
// of keys are not: a process reads the key of a user once.
type metered struct {
	place  dynamolocal.Endpoint
	meter  dynamolocal.Meter
	log    *recordingLog
	clock  *events.Clock
	region *functions.Region
	api    http.Handler
	stream *stream.Handler
	ring   *keys.Ring
	auth   *api.Auth
	signer ed25519.PrivateKey // of tokens
}

func openMetered(ctx context.Context, place dynamolocal.Endpoint) (*metered, error) {
	place.Key = dynamolocal.NewKey()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	r := &metered{
		place: place, signer: private, clock: events.NewClock(time.Now, events.NewMarks(nil)),
		auth: api.NewAuth(api.AuthConfig{Issuer: "bench", Keys: api.FixedJWKS("", public)}),
	}
	cfg := place.Config(meteredRegion)
	if err := errors.Join(dynamolog.CreateTable(ctx, cfg, "events"), dynamokeys.CreateTable(ctx, cfg, "keys")); err != nil {
		return nil, err
	}
	r.log = &recordingLog{Log: dynamolog.New(r.meter.Watch(cfg), "events")}
	root := make([]byte, 32)
	_, _ = rand.Read(root) // never fails
	wrapper, err := keys.NewRoot(root)
	if err != nil {
		return nil, err
	}
	r.ring = keys.NewRing(dynamokeys.New(cfg, "keys"), wrapper, nil)
	if r.region, err = r.into(ctx, "views"); err != nil {
		return nil, err
	}
	r.api, r.stream = r.region.API().Handler(), r.region.Stream()
	return r, nil
}

// into returns the functions of the region with views in a new table of that name.
func (r *metered) into(ctx context.Context, table string) (*functions.Region, error) {
	cfg := r.meter.Watch(r.place.Config(meteredRegion))
	if err := dynamoview.CreateTable(ctx, cfg, table); err != nil {
		return nil, err
	}
	return r.over(table), nil
}

// over returns the functions of the region with the views in a table, as a new process has them: with
// empty caches.
func (r *metered) over(table string) *functions.Region {
	cfg := r.meter.Watch(r.place.Config(meteredRegion))
	region := functions.New(functions.Parts{
		Region: meteredRegion, Log: r.log, Views: dynamoview.New(cfg, table), Clock: r.clock,
		Keys: r.ring, Auth: r.auth, Bus: &countingBus{},
		Beats: 1, // each trigger leads to one event
	})
	region.Generations.Fresh = time.Hour // one read a second would be counted by chance
	return region
}

// send sends a command as a user, with a JSON body or none. It fails unless the command is accepted.
func (r *metered) send(ctx context.Context, method, path, user, body string) error {
	_, err := r.call(ctx, r.api, method, path, user, body)
	return err
}

// call sends a request to an API as a user, and returns the body of the answer. It fails unless the answer
// says that all is well.
func (r *metered) call(ctx context.Context, api http.Handler, method, path, user, body string) ([]byte, error) {
	token, err := r.token(user)
	if err != nil {
		return nil, err
	}
	req := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	got := httptest.NewRecorder()
	if api.ServeHTTP(got, req); got.Code >= 300 {
		return nil, fmt.Errorf("%s: status %d: %s", method, got.Code, got.Body)
	}
	return got.Body.Bytes(), nil
}

// token returns a token of a user.
func (r *metered) token(user string) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "bench", "sub": user, "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(r.signer)
}

// newEvent makes an event of an actor; without a stream, in that of a new room with the event's id.
func (r *metered) newEvent(actor string, stream events.Stream, payload events.Payload) (events.Event, error) {
	id, err := r.clock.Mint(actor)
	if err != nil {
		return events.Event{}, err
	}
	if stream == "" {
		stream = events.RoomStream(id.String())
	}
	return events.New(id, stream, actor, meteredRegion, payload)
}

// assume appends and handles events that are not measured.
func (r *metered) assume(ctx context.Context, all []events.Event) error {
	records := make([]events.Record, len(all))
	if err := forEach(ctx, len(all), 8, func(ctx context.Context, i int) error {
		_, _, err := r.log.Log.Append(ctx, all[i])
		return err
	}); err != nil {
		return err
	}
	for i, e := range all {
		records[i] = r.log.record(e)
	}
	_, err := r.stream.Handle(ctx, records)
	r.meter.Take()
	return err
}

// units are request units: written to the log and to the views, and read.
type units struct{ log, views, read float64 }

// used returns the units used since it was last called. The views are in a table of that name.
func (r *metered) used(viewTable string) (u units) {
	for use, n := range r.meter.Take() {
		switch use.Table {
		case "events":
			u.log += n.Write
		case viewTable:
			u.views += n.Write
		}
		u.read += n.Read
	}
	return u
}

// and returns the cost of each of n events: their commands used u, and handling them used handled.
func (u units) and(handled units, n int) cost {
	count := float64(n)
	return cost{u.log / count, (u.views + handled.views) / count, u.read / count, handled.read / count}
}

// recordingLog keeps what is appended in the form in which the change stream delivers it.
type recordingLog struct {
	events.Log
	number   atomic.Int64
	mu       sync.Mutex
	appended []events.Record
}

// Append implements [events.Log].
func (l *recordingLog) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	stored, repeat, err := l.Log.Append(ctx, e)
	if err == nil && !repeat {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.appended = append(l.appended, l.record(stored))
	}
	return stored, repeat, err
}

// record returns the record of an event, with the next number of the change stream.
func (l *recordingLog) record(e events.Event) events.Record {
	n := l.number.Add(1)
	return events.Record{Event: e, Number: events.Number(strconv.FormatInt(n, 10))}
}

// take returns what was appended since it was last called.
func (l *recordingLog) take() []events.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	records := l.appended
	l.appended = nil
	return records
}

// countingBus accepts and counts all entries.
type countingBus struct{ published atomic.Int64 }

// Publish implements [stream.Bus].
func (b *countingBus) Publish(_ context.Context, entries []stream.Entry) ([]error, error) {
	b.published.Add(int64(len(entries)))
	return make([]error, len(entries)), nil
}
