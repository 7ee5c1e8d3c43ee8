package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"parley/events"
	"parley/functions/wire"
)

// room is a room that a user has tried to create.
type room struct {
	id     string
	stream events.Stream
}

// message is a message that a user has tried to post.
type message struct {
	room   *room
	id     events.ID
	author string
}

// command is a command of a user under an id of the user's own, with what has become of it.
type command struct {
	user         string
	by           string // who sends it, if it is not the user
	method, path string
	body         string
	id           events.ID
	stream       events.Stream // of its event
	text         string        // the content that must be sealed; "" if there is none
	shared       bool          // another command has the same id
	read         bool          // it says what had arrived where it was accepted: in another region it is another event

	sent   int
	acked  bool // a region has said that it stored the event, or had it
	unsure bool // a region gave no answer, or one that leaves it open
}

// answer is what a region answered.
type answer struct {
	status int // 0: there was no answer
	body   []byte
}

func (a answer) ok() bool { return a.status/100 == 2 }

// open reports whether the command may have happened, though no success was reported.
func (a answer) open() bool { return a.status == 0 || a.status >= 500 }

// request sends a request to a region.
func (w *world) request(s Step, r *region, user, method, path, body, key string) answer {
	if r.failing {
		return answer{status: 599}
	}
	p := r.any(&r.servers, s, "http")
	ctx, end := p.begin(s, "request")
	defer end()
	name, _, _ := strings.Cut(path, "?")
	f, err := p.enter(ctx, "http", user+" "+method+" "+name)
	if err != nil || f == refuse {
		return answer{}
	}
	q := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	q.Header.Set("Authorization", "Bearer "+tokenOf(user))
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		q.Header.Set("Idempotency-Key", key)
	}
	got := httptest.NewRecorder()
	p.f.API().Handler().ServeHTTP(got, q)
	if err := p.leave(f, errRefused); err != nil {
		return answer{}
	}
	a := answer{got.Code, got.Body.Bytes()}
	w.trace.note(r.name, "note", "", "%s %s %s: %d", user, method, name, a.status)
	if a.status == http.StatusInternalServerError && w.faultsOf(s) == 0 && !w.together {
		w.fail("internal-error", "%s %s in %s without a fault: %s", method, name, r.name, a.body)
	}
	return a
}

// send sends a command to a region, and notes what became of it.
func (w *world) send(s Step, r *region, c *command) answer {
	key := ""
	if !strings.Contains(c.path, c.id.String()) {
		key = c.id.String()
	}
	a := w.request(s, r, cmp.Or(c.by, c.user), c.method, c.path, c.body, key)
	c.sent++
	switch {
	case a.ok():
		switch got := idIn(a.body); {
		case got == c.id, got == (events.ID{}) && a.status == http.StatusCreated:
			c.acked = true
			w.checkStored(r, c)
		case got == (events.ID{}): // of a direct room that was there: by this command or another
			c.unsure = true
		}
	case a.open():
		c.unsure = true
	}
	return a
}

// idIn returns the id of the event in an answer; zero if there is none.
func idIn(body []byte) events.ID {
	var in struct{ ID, Event string }
	_ = json.Unmarshal(body, &in) // zero if it is none
	id, _ := events.ParseID("id", in.ID+in.Event)
	return id
}

// command makes a command of a user.
func (w *world) command(user, method, path, body string, stream events.Stream, causes ...events.ID) *command {
	c := &command{user: user, method: method, path: path, body: body, stream: stream, id: w.mint(user, causes...)}
	c.path = strings.ReplaceAll(c.path, "{new}", c.id.String())
	if c.stream == "" {
		c.stream = events.RoomStream(c.id.String())
	}
	w.commands = append(w.commands, c)
	return c
}

// mint makes an id of a user, whose clock is right.
func (w *world) mint(user string, causes ...events.ID) events.ID {
	return events.NewClock(time.Now, w.marks).MintAfter(user, causes...)
}

func (w *world) user(n int) string      { return w.users[n%len(w.users)] }
func (w *world) region(n int) *region   { return w.regions[n%len(w.regions)] }
func (w *world) room(n int) *room       { return w.rooms[n%len(w.rooms)] }
func (r *room) path(more string) string { return "/v1/rooms/" + r.id + more }

// message returns one of the messages that were posted, the later ones more often; nil if there are none.
func (w *world) message(n int) *message {
	if len(w.messages) == 0 {
		return nil
	}
	last := len(w.messages) - 1
	if n%3 > 0 {
		return w.messages[last-n/3%min(len(w.messages), 5)]
	}
	return w.messages[n/3%len(w.messages)]
}

func bodyOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts
	}
	return string(text)
}

// textMark begins every text of a user, and nothing else.
const textMark = "¶"

// text returns a text that nothing else has.
func (w *world) text(user string) string {
	return fmt.Sprintf("%s%d of %s", textMark, len(w.commands), user)
}

// The steps of users. A says who, B where or what, C in which region; what more they say differs.

func (w *world) createRoom(s Step) {
	user := w.user(s.A)
	in := wire.NewRoom{Name: fmt.Sprint("room ", len(w.rooms)), Private: s.B%3 == 0}
	c := w.command(user, "PUT", "/v1/rooms/{new}", bodyOf(in), "")
	w.rooms = append(w.rooms, &room{c.id.String(), c.stream})
	w.send(s, w.region(s.C), c)
}

func (w *world) openDirect(s Step) {
	user, other := w.user(s.A), w.user(s.A+1+s.B%max(1, len(w.users)-1))
	if user == other {
		return
	}
	id := events.DirectRoom(user, other)
	c := w.command(user, "PUT", "/v1/direct/"+other, "", events.RoomStream(id))
	known := false
	for _, r := range w.rooms {
		known = known || r.id == id
	}
	if !known {
		w.rooms = append(w.rooms, &room{id, c.stream})
	}
	w.send(s, w.region(s.C), c)
}

func (w *world) post(s Step) {
	user, in, r := w.user(s.A), w.room(s.B), w.region(s.C)
	text := w.text(user)
	body := wire.NewMessage{Text: text}
	var causes []events.ID
	if m := w.message(s.B); m != nil && m.room == in && s.C%4 == 0 {
		if s.C%8 == 0 {
			body.Thread = m.id.String()
		} else {
			body.ReplyTo = m.id.String()
		}
		causes = append(causes, m.id)
	}
	c := w.command(user, "PUT", in.path("/messages/{new}"), bodyOf(body), in.stream, causes...)
	c.text = text
	w.messages = append(w.messages, &message{in, c.id, user})
	a := w.send(s, r, c)
	if a.ok() && s.A%3 == 0 {
		w.readOwn(s, r, c, text)
	}
}

// readOwn reads back what a command has just written, wherever the views are.
func (w *world) readOwn(s Step, r *region, c *command, text string) {
	a := w.request(s, r, c.user, "GET", c.path+"?includes="+c.id.String(), "", "")
	if a.open() || w.together || w.erased[c.user] {
		return
	}
	var m wire.Message
	if err := json.Unmarshal(a.body, &m); a.status != 200 || err != nil || m.Text != text {
		w.fail("read-your-writes", "%s posted %s in %s, and reads %d %s", c.user, c.id, r.name, a.status, a.body)
	}
}

// retry sends a command again that was sent before, to any region.
func (w *world) retry(s Step) {
	c := w.commands[len(w.commands)-1-s.A%min(len(w.commands), 12)]
	w.send(s, w.region(s.C), c)
}

// other sends another message under the id of one that was sent before.
func (w *world) other(s Step) {
	m := w.message(s.A)
	if m == nil {
		return
	}
	text := w.text(m.author)
	c := &command{
		user: m.author, method: "PUT", path: m.room.path("/messages/" + m.id.String()), body: bodyOf(wire.NewMessage{Text: text}),
		id: m.id, stream: m.room.stream, text: text, shared: true,
	}
	for _, before := range w.commands {
		if before.id == c.id && before.stream == c.stream {
			before.shared = true
		}
	}
	w.commands = append(w.commands, c)
	w.send(s, w.region(s.C), c)
}

// onMessage sends a command on a message.
func (w *world) onMessage(s Step, user func(*message) string, method, path, body string) (*command, *region, answer) {
	m := w.message(s.B)
	if m == nil {
		return nil, nil, answer{}
	}
	c := w.command(user(m), method, m.room.path("/messages/"+m.id.String()+path), body, m.room.stream, m.id)
	r := w.region(s.C)
	return c, r, w.send(s, r, c)
}

// anyone returns the user of a step, whatever the message.
func (w *world) anyone(s Step) func(*message) string {
	return func(*message) string { return w.user(s.A) }
}

// author returns mostly the author of the message.
func (w *world) author(s Step) func(*message) string {
	return func(m *message) string {
		if s.A%5 == 0 {
			return w.user(s.A)
		}
		return m.author
	}
}

func (w *world) edit(s Step) {
	text := w.text("an author")
	if c, _, _ := w.onMessage(s, w.author(s), "PATCH", "", bodyOf(wire.MessageEdit{Text: text})); c != nil {
		c.text = text
	}
}

func (w *world) remove(s Step) { w.onMessage(s, w.author(s), "DELETE", "", "") }

var emojis = []string{"👍", ":tada:"}

func (w *world) react(s Step) {
	w.onMessage(s, w.anyone(s), "PUT", "/reactions/"+url.PathEscape(emojis[s.C%2]), "")
}

func (w *world) unreact(s Step) {
	w.onMessage(s, w.anyone(s), "DELETE", "/reactions/"+url.PathEscape(emojis[s.C%2]), "")
}

func (w *world) pin(s Step)   { w.onMessage(s, w.anyone(s), "PUT", "/pin", "") }
func (w *world) unpin(s Step) { w.onMessage(s, w.anyone(s), "DELETE", "/pin", "") }

func (w *world) read(s Step) {
	m := w.message(s.B)
	if m == nil {
		return
	}
	user := w.user(s.A)
	c := w.command(user, "PUT", m.room.path("/read"), bodyOf(wire.ReadMarker{UpTo: m.id.String()}), events.UserStream(user), m.id)
	c.read = true
	w.send(s, w.region(s.C), c)
}

func (w *world) profile(s Step) {
	user := w.user(s.A)
	text := w.text(user)
	c := w.command(user, "PUT", "/v1/users/"+user, bodyOf(wire.NewProfile{Name: text}), events.UserStream(user))
	c.text = text
	w.send(s, w.region(s.C), c)
}

// onMember sends a command about a user in a room.
func (w *world) onMember(s Step, by, user, method, path, body string) {
	in := w.room(s.B)
	w.send(s, w.region(s.C), w.command(by, method, in.path(path+user), body, in.stream))
}

func (w *world) join(s Step)   { w.onMember(s, w.user(s.A), w.user(s.A), "PUT", "/members/", "") }
func (w *world) leave(s Step)  { w.onMember(s, w.user(s.A), w.user(s.A), "DELETE", "/members/", "") }
func (w *world) invite(s Step) { w.onMember(s, w.user(0), w.user(s.A), "PUT", "/members/", "") }
func (w *world) expel(s Step)  { w.onMember(s, w.user(0), w.user(s.A), "DELETE", "/members/", "") }
func (w *world) ban(s Step)    { w.onMember(s, w.user(0), w.user(s.A), "PUT", "/bans/", "") }
func (w *world) unban(s Step)  { w.onMember(s, w.user(0), w.user(s.A), "DELETE", "/bans/", "") }

func (w *world) role(s Step) {
	role := []string{"owner", "admin", "member"}[s.C/8%3]
	w.onMember(s, w.user(0), w.user(s.A), "PATCH", "/members/", `{"role":"`+role+`"}`)
}

func (w *world) change(s Step) {
	in := w.room(s.B)
	topic := fmt.Sprint("topic ", len(w.commands))
	body := wire.RoomChange{Topic: &topic}
	switch s.C / 8 % 8 {
	case 0:
		yes := s.C/64%2 == 0
		body = wire.RoomChange{Archived: &yes}
	case 1:
		yes := s.C/64%2 == 0
		body = wire.RoomChange{Private: &yes}
	}
	w.send(s, w.region(s.C), w.command(w.user(s.A), "PATCH", in.path(""), bodyOf(body), in.stream))
}

// page reads a page of a room's messages, which are in order, and each once.
func (w *world) page(s Step) {
	a := w.request(s, w.region(s.C), w.user(s.A), "GET", w.room(s.B).path(fmt.Sprint("/messages?limit=", 1+s.C%50)), "", "")
	if !a.ok() {
		return
	}
	var page wire.MessagePage
	if err := json.Unmarshal(a.body, &page); err != nil {
		w.fail("page", "a page is no JSON: %v", err)
	}
	for i := range page.Messages {
		if i > 0 && page.Messages[i].ID.Compare(page.Messages[i-1].ID) <= 0 {
			w.fail("page", "message %s stands behind %s", page.Messages[i].ID, page.Messages[i-1].ID)
		}
	}
}

// list reads the rooms of a user.
func (w *world) list(s Step) {
	w.request(s, w.region(s.C), w.user(s.A), "GET", "/v1/rooms", "", "")
}

// populate makes the first rooms: all users are in the first, and some in the second.
func (w *world) populate() {
	s := Step{N: -1}
	everywhere := func() {
		for range 3 {
			time.Sleep(50 * time.Millisecond)
			w.progress(s, true)
		}
	}
	for _, r := range w.regions {
		w.beat(s, r)
	}
	for i := range 2 {
		c := w.command(w.users[0], "PUT", "/v1/rooms/{new}", `{"name":"room"}`, "")
		w.rooms = append(w.rooms, &room{c.id.String(), c.stream})
		w.send(s, w.regions[0], c)
		for j, user := range w.users[1:] {
			if i == 0 || j%2 == 0 {
				time.Sleep(time.Millisecond)
				w.send(s, w.regions[0], w.command(user, "PUT", w.rooms[i].path("/members/"+user), "", w.rooms[i].stream))
			}
		}
	}
	everywhere()
	for i, user := range w.users {
		f := newFollower(user, "client "+user)
		w.followers = append(w.followers, f)
		f.load(w, s, w.region(i))
		if i%2 == 0 {
			l := &listener{follower: *newFollower(user, "socket "+user), world: w}
			w.listeners = append(w.listeners, l)
			l.load(w, s, w.region(i))
			l.listen(s, w.region(i))
		}
	}
}
