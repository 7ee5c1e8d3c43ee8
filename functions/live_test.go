package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/functions/live"
	"parley/projections"
	"parley/projections/viewtest"
)

func roomOf(path string) string { return strings.TrimPrefix(path, "/v1/rooms/") }

// What a user does in one batch comes to the socket as a sync lists it, also of a room that the user has left again.
func TestLiveLeftAgain(t *testing.T) {
	t.Parallel()
	for what, come := range map[string]func(s *scene, eve *client) string{
		"creates": func(_ *scene, eve *client) string { return eve.room(`{"name":"Brief"}`) },
		"joins": func(s *scene, eve *client) string {
			eve.put(s.room+"/members/eve", "").want(200)
			return s.room
		},
	} {
		s := newScene(t)
		eve, cursor := s.as("eve"), s.as("eve").cursor()
		eves := eve.listen()
		room := come(s, eve)
		if what == "creates" {
			s.as("bob").put(room+"/members/bob", "").want(200)
			eve.patch(room+"/members/bob", `{"role":"owner"}`).want(200)
		}
		eve.delete(room + "/members/eve").want(200)
		s.Sync()
		var got []string
		for _, f := range eves.take() {
			if f.Type == "event" {
				got = append(got, f.Event.Type)
			}
		}
		if want := eve.sync(cursor).types(); !slices.Equal(got, want) || len(want) != 2 {
			t.Errorf("eve, who %s a room and leaves it, receives %v; a sync lists %v", what, got, want)
		}
	}
}

// If it cannot be read whether a user has joined or left a room, when that must be known, the user's sockets are
// closed: nothing else would show their clients that they lack a room, or nobody that they have one too many.
func TestLiveMembershipUnreadable(t *testing.T) {
	t.Parallel()
	for _, fails := range []int{1, 2} { // when the change is pushed, or when the socket is subscribed
		for what, change := range map[string]func(s *scene){
			"joins":  func(s *scene) { s.as("eve").put(s.room+"/members/eve", "").want(200) },
			"direct": func(s *scene) { s.as("ada").put("/v1/direct/eve", "").want(201) },
			"is banned": func(s *scene) {
				s.as("ada").put(s.room+"/bans/eve", "").want(200)
			},
		} {
			s := newScene(t)
			eves := s.as("eve").listen()
			change(s)
			pushing, reads := false, 0
			s.views.OnSave = func(views []projections.View) viewtest.Fault {
				pushing = pushing || strings.HasPrefix(views[0].Key.Partition, "feed/membership/") // the last before
				return viewtest.Pass
			}
			s.views.OnGet = func(keys []projections.Key) error {
				if pushing && strings.HasPrefix(keys[0].Partition, "member/") && keys[0].Sort == "eve" {
					if reads++; reads == fails {
						return viewtest.ErrFault
					}
				}
				return nil
			}
			s.Sync()
			if reads >= fails {
				eves.closed(live.CodeGoingAway)
			} else if what != "is banned" {
				t.Errorf("eve, who %s: read %d times", what, reads)
			}
		}
	}
}

// Everything that happens comes to all who listen, once, in order, each with the next position.
func TestLive(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada, bob := s.as("ada"), s.as("bob")
	adas, bobs := ada.listen(), bob.listen()
	room := roomOf(s.room)
	bob.put(s.about("/reactions/👍"), "").want(200)
	ada.patch(s.about(""), `{"text":"hello all"}`).want(200)
	sent := adas.ask(`{"action":"send","room":"` + room + `","text":"<b>","ref":7}`)
	if sent.is(t, "sent"); sent.Repeat || *sent.Message.Text != "<b>" || string(sent.Ref) != "7" {
		t.Errorf("it is sent as %+v", sent)
	}
	s.Sync() // between streams there is no order
	bob.put(s.room+"/read", `{"up_to":"`+s.message.String()+`"}`).want(200)
	bob.put("/v1/users/bob", `{"name":"Bob"}`).want(200)
	s.Sync()
	frames := bobs.take()
	var types []string
	position := uint64(3) // created, joined, posted
	for _, f := range frames {
		f.is(t, "event")
		types = append(types, f.Event.Type)
		if f.Room == room {
			if position++; f.Position != position {
				t.Errorf("%s is at %d, want %d", f.Event.Type, f.Position, position)
			}
		}
		if n := bob.sync(f.Cursor); n.Reset {
			t.Error("with the cursor of a frame there is no coming back")
		}
	}
	if want := []string{"reaction.added", "message.edited", "message.posted", "room.read", "user.profile_set"}; !slices.Equal(types, want) {
		t.Errorf("bob hears of %q, want %q", types, want)
	}
	if got, want := adas.events(), []string{"reaction.added", "message.edited", "message.posted"}; !slices.Equal(got, want) {
		t.Errorf("ada hears of %q, want %q", got, want)
	}
	pong := bobs.ask(`{"action":"ping","ref":"p"}`).is(t, "pong")
	if pong.Positions[room] != position || pong.Own != 2 || len(pong.Positions) != 1 || string(pong.Ref) != `"p"` {
		t.Errorf("the pong is %+v", pong)
	}
	if n := bob.sync(pong.Cursor); len(n.Events) > 0 {
		t.Errorf("behind the cursor of the pong there is %q", n.types())
	}
	s.live.Push(t.Context(), nil)
}

// The same message under the same id is sent once, whether by frame or by HTTP.
func TestLiveSendsAgain(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	k := ada.open()
	id := ada.mint(s.message)
	text := fmt.Sprintf(`{"action":"send","room":%q,"id":%q,"text":"once","after":%q}`, roomOf(s.room), id, s.message)
	if f := k.ask(text).is(t, "sent"); f.Repeat || f.Message.ID != id.String() {
		t.Errorf("at first: %+v", f)
	}
	if f := k.ask(text).is(t, "sent"); !f.Repeat {
		t.Errorf("again: %+v", f)
	}
	ada.put(s.room+"/messages/"+id.String(), fmt.Sprintf(`{"text":"once","after":%q}`, s.message)).want(200)
	k.refused(strings.Replace(text, "once", "other", 1), "id_taken", "")
	k.refused(fmt.Sprintf(`{"action":"send","room":%q,"text":"x","reply_to":%q}`, roomOf(s.room), s.mint("ada")), "message_not_found", "")
	s.as("eve").open().refused(fmt.Sprintf(`{"action":"send","room":%q,"text":"x"}`, roomOf(s.room)), "not_a_member", "")
}

// A user who joins gets the events of the room at once; one who leaves, is removed or is banned gets
// that event and no more.
func TestLiveMembers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada, bob, eve := s.as("ada"), s.as("bob"), s.as("eve")
	bobs, eves := bob.listen(), eve.listen()
	room := roomOf(s.room)
	ada.say(s.room, "before")
	eve.put(s.room+"/members/eve", "").want(200)
	s.Sync()
	if got, want := eves.events(), []string{"message.posted", "member.joined"}; !slices.Equal(got, want) {
		t.Errorf("eve, who joins, hears of %q, want %q", got, want) // what came in the same batch, too
	}
	bobs.take()
	ada.say(s.room, "to be heard")
	s.Sync()
	if got, want := eves.events(), []string{"message.posted"}; !slices.Equal(got, want) {
		t.Errorf("eve hears of %q, want %q", got, want)
	}
	for what, remove := range map[string]func(){
		"banned":  func() { ada.put(s.room+"/bans/eve", "").want(200) },
		"removed": func() { ada.delete(s.room + "/members/bob").want(200) },
	} {
		k, user := eves, "eve"
		if what == "removed" {
			k, user = bobs, "bob"
		}
		k.take()
		remove()
		ada.say(s.room, "secret")
		s.Sync()
		frames := k.take()
		if len(frames) != 2 || frames[0].Position != 0 || !strings.HasPrefix(frames[0].Event.Type, "member.") || frames[1].Type != "removed" || frames[1].Room != room {
			t.Errorf("%s, who is %s, receives %+v", user, what, frames)
		}
		ada.say(s.room, "secret, too")
		s.Sync()
		if got := k.events(); len(got) > 0 {
			t.Errorf("%s, who is %s, hears of %q", user, what, got)
		}
		if rooms := k.ask(`{"action":"ping"}`).Positions; len(rooms) > 0 {
			t.Errorf("%s, who is %s, receives positions: %v", user, what, rooms)
		}
		k.take()
	}
	eves.refused(`{"action":"subscribe","rooms":["`+room+`"]}`, "banned", "")
	bobs.refused(`{"action":"subscribe","rooms":["`+room+`"]}`, "not_a_member", "")
}

// An invited user gets the invitation and nothing else of the room.
func TestLiveInvitation(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada, eve := s.as("ada"), s.as("eve")
	secret := ada.room(`{"name":"Secret","private":true}`)
	eves := eve.listen()
	ada.put(secret+"/members/eve", "").want(200)
	ada.say(secret, "hidden")
	s.Sync()
	if frames := eves.take(); len(frames) != 1 || frames[0].Event.Type != "member.invited" || frames[0].Position != 0 || frames[0].Room != roomOf(secret) {
		t.Errorf("the invited user receives %+v", frames)
	}
	eves.refused(`{"action":"subscribe","rooms":["`+roomOf(secret)+`"]}`, "room_not_found", "")
	eve.put(secret+"/members/eve", "").want(200)
	ada.say(secret, "hello")
	s.Sync()
	if got := eves.events(); !slices.Equal(got, []string{"member.joined", "message.posted"}) {
		t.Errorf("after accepting the user receives %q", got)
	}
}

// A direct room appears to both.
func TestLiveDirect(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	adas, bobs := r.as("ada").listen(), r.as("bob").listen()
	r.as("ada").put("/v1/direct/bob", "").want(201)
	r.Sync()
	for _, k := range []*socket{adas, bobs} {
		if got := k.events(); !slices.Equal(got, []string{"room.created"}) {
			t.Errorf("one of the two hears of %q", got)
		}
	}
}

// Nobody hears of a private room who is not in it.
func TestLivePrivate(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada, bob := s.as("ada"), s.as("bob")
	bobs := bob.listen()
	secret := ada.room(`{"name":"Secret","private":true}`)
	ada.say(secret, "hidden")
	s.Sync()
	if got := bobs.events(); len(got) > 0 {
		t.Errorf("bob hears of %q", got)
	}
	bobs.refused(`{"action":"subscribe","rooms":["`+roomOf(secret)+`"]}`, "room_not_found", "")
	bobs.refused(`{"action":"typing","room":"`+roomOf(secret)+`"}`, "not_subscribed", "")
}

// Typing is sent to the others who listen, and stored nowhere.
func TestLiveTyping(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	adas, bobs, also := s.as("ada").listen(), s.as("bob").listen(), s.as("ada").open()
	head := s.store.Head()
	if got := adas.send(`{"action":"typing","room":"` + strings.ToLower(roomOf(s.room)) + `"}`); len(got) > 0 {
		t.Errorf("it is answered with %+v", got)
	}
	if got := bobs.take(); len(got) != 1 || got[0].Type != "typing" || got[0].User != "ada" || got[0].Room != roomOf(s.room) {
		t.Errorf("bob hears %+v", got)
	}
	// Once in 3 s is enough, from all sockets of a user together, in each room.
	const another = 3 * time.Second
	hears := func(k *socket, want int) {
		t.Helper()
		k.send(`{"action":"typing","room":"` + roomOf(s.room) + `"}`)
		if got := bobs.take(); len(got) != want {
			t.Errorf("bob hears %+v, want %d", got, want)
		}
	}
	for range 20 {
		hears(adas, 0)
	}
	also.ask(`{"action":"subscribe"}`).is(t, "subscribed")
	hears(also, 0)
	s.pass(another)
	hears(also, 1)
	hears(adas, 0)
	bobs.send(`{"action":"typing","room":"` + roomOf(s.room) + `"}`)
	for _, k := range []*socket{adas, also} {
		if got := k.take(); len(got) != 1 || got[0].User != "bob" {
			t.Errorf("of bob ada hears %+v", got)
		}
	}
	if got := also.take(); len(got) > 0 || s.store.Head() != head {
		t.Errorf("ada's other socket hears %+v, and the log has %d more", got, s.store.Head()-head)
	}
}

// Events that arrived while nobody listened are sent to a client that returns with a cursor, before
// subscribed.
func TestLiveCatchUp(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada, bob := s.as("ada"), s.as("bob")
	cursor := bob.cursor()
	for n := range 7 {
		ada.say(s.room, fmt.Sprint(n))
	}
	s.Sync()
	k := bob.open()
	frames := k.send(`{"action":"subscribe","cursor":"` + cursor + `"}`)
	if len(frames) != 8 || frames[7].Type != "subscribed" || frames[7].More || frames[7].Reset || frames[0].Cursor != cursor {
		t.Fatalf("it is answered with %+v", frames)
	}
	if n := bob.sync(frames[7].Cursor); len(n.Events) > 0 {
		t.Errorf("events are missing: there is %q", n.types())
	}
	frames = k.send(`{"action":"catchup","cursor":"` + cursor + `","limit":5,"ref":1}`)
	last := frames[len(frames)-1]
	if len(frames) != 6 || last.Type != "caught_up" || !last.More || last.Reset || string(last.Ref) != "1" {
		t.Fatalf("it is answered with %+v", frames)
	}
	if frames = k.send(`{"action":"catchup","cursor":"` + last.Cursor + `"}`); len(frames) != 3 || frames[2].More {
		t.Errorf("the rest is %+v", frames)
	}
	k.refused(`{"action":"catchup","cursor":"`+ada.cursor()+`"}`, "invalid_cursor", "")
	k.refused(`{"action":"catchup","cursor":"`+cursor+`","limit":201}`, "invalid_field", "limit")
	k.refused(`{"action":"catchup"}`, "invalid_field", "cursor")
	k.refused(`{"action":"subscribe","cursor":"no"}`, "invalid_cursor", "")
}

// Hostile and mistaken frames are answered with what is wrong, and nothing is stored.
func TestLiveRefuses(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	room := roomOf(s.room)
	head := s.store.Head()
	for text, want := range map[string]string{
		`{}`:                           "action",
		`[]`:                           "action",
		`null`:                         "action",
		`{"action":"Ping"}`:            "action",
		`{"action":1}`:                 "action",
		`{"action":"ping","ref":{}}`:   "ref",
		`{"action":"ping","ref":true}`: "ref",
		`{"action":"ping","ref":"` + strings.Repeat("x", 65) + `"}`:                            "ref",
		`{"action":"ping","x":1}`:                                                              "x",
		`{"action":"ping","action":"ping"}`:                                                    "action",
		`{"action":"subscribe","rooms":[]}`:                                                    "rooms",
		`{"action":"subscribe","rooms":"all"}`:                                                 "rooms",
		`{"action":"subscribe","rooms":["` + room + `","no"]}`:                                 "rooms[1]",
		`{"action":"subscribe","rooms":[null]}`:                                                "rooms[0]",
		`{"action":"unsubscribe","rooms":["../x"]}`:                                            "rooms[0]",
		`{"action":"typing"}`:                                                                  "room",
		`{"action":"send","room":"` + room + `"}`:                                              "text",
		`{"action":"send","room":"` + room + `","text":""}`:                                    "text",
		`{"action":"send","room":"` + room + `","text":"\ud800"}`:                              "body",
		`{"action":"send","room":"` + room + `","text":null}`:                                  "text",
		`{"action":"send","room":"` + room + `","text":"x","id":"y"}`:                          "id",
		`{"action":"send","room":"` + room + `","text":"x","after":"y"}`:                       "after",
		`{"action":"send","room":"` + room + `","text":"` + strings.Repeat("x", 20_001) + `"}`: "text",
		`{"action":"send","room":"../../v1/rooms","text":"x"}`:                                 "room",
		`{"action":"catchup","cursor":"x","limit":"7"}`:                                        "limit",
	} {
		k := s.as("ada").open()
		k.refused(text, "invalid_field", want)
		k.gone()
	}
	for text, code := range map[string]live.Code{
		``: live.CodeBadFrame, `{`: live.CodeBadFrame, `{"action":"ping"} {}`: live.CodeBadFrame, "\xff": live.CodeBadFrame,
		`{"action":"ping","ref":"` + strings.Repeat("x", 32<<10) + `"}`: live.CodeFrameTooLarge,
	} {
		k := s.as("ada").open()
		if got := k.send(text); len(got) > 0 {
			t.Errorf("%.20q is answered with %+v", text, got)
		}
		k.closed(code)
	}
	if s.store.Head() != head {
		t.Error("something was stored")
	}
}

// A token comes with the handshake or in the first frame; there is nothing without.
func TestLiveTokens(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ctx := t.Context()
	token := s.token("ada", "")
	for what, header := range map[string]http.Header{
		"header":      {"Authorization": {"bearer " + token}},
		"subprotocol": {"Sec-Websocket-Protocol": {"parley.v1, bearer." + token}},
	} {
		k := &socket{s.region, what}
		must(t, s.live.Connect(ctx, what, header))
		if f := k.ask(`{"action":"auth"}`); f.Type != "hello" || f.User != "ada" {
			t.Errorf("%s: %+v", what, f)
		}
		k.ask(`{"action":"auth","token":"`+token+`"}`).is(t, "hello") // the same again
		for _, other := range []string{s.token("bob", ""), s.token("ada", api.ScopeOperator), "no"} {
			k.refused(`{"action":"auth","token":"`+other+`"}`, "has_token", "")
		}
	}
	if _, protocol := live.TokenOf(http.Header{"Sec-Websocket-Protocol": {"other", "parley.v1,bearer.x"}}); protocol != live.Protocol {
		t.Errorf("the protocol is %q", protocol)
	}
	var p interface{ GetStatus() int }
	if err := s.live.Connect(ctx, "bad", http.Header{"Authorization": {"Bearer no"}}); !errors.As(err, &p) || p.GetStatus() != 401 {
		t.Errorf("a bad token in the handshake: %v", err)
	}
	first := &socket{s.region, "first frame"}
	must(t, s.live.Connect(ctx, first.id, http.Header{}))
	if f := first.ask(`{"action":"auth","token":"` + token + `"}`); f.Type != "hello" || f.User != "ada" {
		t.Errorf("in the first frame: %+v", f)
	}
	for _, text := range []string{`{"action":"ping"}`, `{"action":"auth"}`, `{"action":"auth","token":"no"}`} {
		k := &socket{s.region, text}
		must(t, s.live.Connect(ctx, k.id, http.Header{}))
		k.send(text)
		k.closed(live.CodeUnauthorized)
	}
	claims := s.claims("ada")
	claims["exp"] = s.now().Add(time.Hour).Unix()
	asks, hears := &socket{s.region, "asks"}, &socket{s.region, "hears"}
	for _, k := range []*socket{asks, hears} {
		must(t, s.live.Connect(ctx, k.id, http.Header{"Authorization": {"Bearer " + s.sign(claims)}}))
		k.ask(`{"action":"subscribe"}`).is(t, "subscribed")
	}
	s.pass(time.Hour)
	asks.send(`{"action":"ping"}`)
	asks.closed(live.CodeExpired)
	s.as("bob").say(s.room, "too late")
	s.Sync()
	hears.closed(live.CodeExpired)
	if got := hears.take(); len(got) > 0 {
		t.Errorf("with an expired token one hears %+v", got)
	}
}

// A user with more rooms than a socket may listen to listens to those joined last; others can only open
// direct rooms, which take the place of none of them. What happens in the rest comes with a catch-up.
func TestLiveManyRooms(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	limits := live.DefaultLimits
	limits.Rooms = 4
	r.live.Limits = limits
	ada := r.as("ada")
	var rooms []string
	for n := range 5 {
		rooms = append(rooms, ada.room(fmt.Sprintf(`{"name":"room %d"}`, n)))
		r.as("eve").put(fmt.Sprintf("/v1/rooms/%s/members/eve", roomOf(rooms[n])), "").want(200)
	}
	for n := range 3 {
		r.as(fmt.Sprint("stranger", n)).put("/v1/direct/ada", "").want(201)
	}
	ada.put(rooms[0]+"/members/ada", "").want(200)
	ada.patch(rooms[0]+"/members/eve", `{"role":"owner"}`).want(200)
	ada.delete(rooms[0] + "/members/ada").want(200)
	ada.put(rooms[0]+"/members/ada", "").want(200) // is the one joined last now, and the second is not among the last four
	r.Sync()
	cursor := ada.cursor()

	k := ada.open()
	answer := k.ask(`{"action":"subscribe"}`)
	want := []string{roomOf(rooms[0]), roomOf(rooms[2]), roomOf(rooms[3]), roomOf(rooms[4])}
	if answer.Type != "subscribed" || !slices.Equal(answer.Rooms, want) || !answer.Incomplete {
		t.Errorf("it listens to %v, want %v: %+v", answer.Rooms, want, answer)
	}
	heard, unheard := r.as("eve").say(rooms[0], "heard"), r.as("eve").say(rooms[1], "not heard")
	r.Sync()
	if got := k.events(); !slices.Equal(got, []string{"message.posted"}) {
		t.Errorf("it receives %q", got)
	}
	ada.delete(rooms[4]+"/members/ada").refused(409, "last_owner")
	pong := k.ask(`{"action":"ping"}`)
	if !pong.Incomplete || pong.Cursor != "" || len(pong.Positions) != 4 {
		t.Errorf("the pong is %+v", pong)
	}
	ada.delete(rooms[0] + "/members/ada").want(200) // below the limit, others are still missing
	r.Sync()
	k.take()
	if pong := k.ask(`{"action":"ping"}`); !pong.Incomplete || len(pong.Positions) != 3 {
		t.Errorf("with a room less the pong is %+v", pong)
	}
	var ids []string
	for _, f := range k.send(fmt.Sprintf(`{"action":"catchup","cursor":%q}`, cursor)) {
		if f.Type == "event" {
			ids = append(ids, f.Event.ID)
		}
	}
	if !slices.Contains(ids, unheard.String()) || slices.Contains(ids, heard.String()) { // ada has left that room
		t.Errorf("the catch-up brings %v, want %v", ids, unheard)
	}
}

// A socket that sends too much, or is open for too long, is closed with the reason.
func TestLiveBounds(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.step.Store(0)
	k := s.as("ada").open()
	for n := 1; n < live.DefaultLimits.Burst; n++ {
		k.ask(`{"action":"ping"}`).is(t, "pong")
	}
	k.send(`{"action":"ping"}`)
	k.closed(live.CodeTooManyFrames)
	k = s.as("ada").open()
	s.pass(live.DefaultLimits.Life + 1)
	k.send(`{"action":"ping"}`)
	k.closed(live.CodeLife)
	if k.send(`{"action":"ping"}`); len(k.take()) > 0 {
		t.Error("a socket that is closed is answered")
	}
}

// A frame that is lost is the last of its socket: none is left out in the middle. Others do not
// notice.
func TestLiveLostFrame(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	adas, bobs, gone := s.as("ada").listen(), s.as("bob").listen(), s.as("bob").listen()
	s.sockets.fail[bobs.id] = errors.New("too slow")
	s.sockets.fail[gone.id] = live.ErrGone
	s.as("ada").say(s.room, "lost")
	s.Sync()
	delete(s.sockets.fail, bobs.id)
	s.as("ada").say(s.room, "not sent")
	s.Sync()
	bobs.closed(live.CodeSlow)
	gone.closed("")
	if got := bobs.take(); len(got) > 0 {
		t.Errorf("behind the lost frame come %+v", got)
	}
	if got := adas.events(); len(got) != 2 {
		t.Errorf("ada hears of %q", got)
	}
}

// When the time for pushing ends, the sockets that were not reached are closed, and the stream goes on.
func TestLiveOutOfTime(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	k := s.as("bob").listen()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.as("ada").say(s.room, "hello")
	e, err := events.Get(t.Context(), s.log, events.RoomStream(roomOf(s.room)), s.message)
	must(t, err)
	s.live.Push(ctx, []projections.Happened{{Event: e, Position: 3}})
	k.closed(live.CodeSlow)
}

// A room that is taken while somebody subscribes to it is not given back.
func TestLiveSubscribeMeetsRemoval(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada, bob := s.as("ada"), s.as("bob")
	k := bob.open()
	meddled := false
	s.live.Connections = &meddler{s.live.Connections, func() {
		if !meddled {
			meddled = true
			ada.put(s.room+"/bans/bob", "").want(200)
			s.Sync()
		}
	}}
	frames := k.send(`{"action":"subscribe","rooms":["` + roomOf(s.room) + `"]}`)
	if last := frames[len(frames)-1]; last.Type != "error" || last.Problem.Code != "banned" {
		t.Errorf("it is answered with %+v", frames)
	}
	ada.say(s.room, "secret")
	s.Sync()
	if got := k.events(); len(got) > 0 {
		t.Errorf("bob, who is banned, hears of %q", got)
	}
}

// meddler does something just before somebody subscribes, when all has been checked.
type meddler struct {
	live.Connections
	before func()
}

func (m *meddler) Subscribe(ctx context.Context, conn string, revision uint64, all bool, rooms ...string) error {
	m.before()
	return m.Connections.Subscribe(ctx, conn, revision, all, rooms...)
}

// What does not fit into a frame comes without its content, and many positions in several.
func TestLiveLargeFrames(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	k := s.as("ada").listen()
	text := strings.Repeat(`"`, 20_000)
	quoted, err := json.Marshal(text)
	must(t, err)
	cursor := s.as("ada").cursor()
	s.as("ada").post(s.room+"/messages", `{"text":`+string(quoted)+`}`).want(201)
	s.Sync()
	frames := append(k.take(), k.send(`{"action":"catchup","cursor":"` + cursor + `"}`)[0])
	for _, f := range frames {
		if f.Type != "event" || !f.Partial || f.Event.ID == "" || f.Event.Data != nil || f.Position != 4 {
			t.Errorf("a large event comes as %+v", f)
		}
	}
	const rooms = 650
	for n := range rooms {
		s.as("ada").room(fmt.Sprintf(`{"name":"Room %d"}`, n))
	}
	s.Sync()
	k.take()
	for _, ask := range []string{`{"action":"subscribe","ref":1}`, `{"action":"ping","ref":1}`} {
		frames := k.send(ask)
		tops := map[string]uint64{}
		for i, f := range frames {
			if len(f.text) > live.DefaultLimits.FrameBytes || string(f.Ref) != "1" || f.Part != (i < len(frames)-1) || f.Part == (f.Cursor != "") {
				t.Errorf("part %d of %d has %d bytes: %v %q", i, len(frames), len(f.text), f.Part, f.Cursor)
			}
			for room, top := range f.Positions {
				tops[room] = top
			}
		}
		if len(frames) != 3 || len(tops) != rooms+1 {
			t.Errorf("%s: %d rooms in %d frames", ask, len(tops), len(frames))
		}
	}
}

// FuzzFrame: whatever a client sends, it is answered or the socket is closed, and nothing else.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		`{"action":"subscribe","rooms":["01BX5ZZKBKACTAV9WEVGEMMVRZ"],"cursor":"x","ref":1}`, `{"action":"ping","ref":"a"}`,
		`{"action":"send","room":"x","text":"y","id":"z","thread":"t"}`, `{"action":"catchup","cursor":"","limit":0}`,
		`{"action":"auth","token":"x"}`, `{"action":"unsubscribe"}`, `{"action":"typing","room":"x"}`, `[`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	s := newScene(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s.region.t, s.world.t = t, t
		k := s.as("ada").open()
		frames := k.send(string(data))
		code := s.sockets.code(k.id)
		if len(frames) == 0 && code == "" && !strings.Contains(string(data), "typing") {
			t.Errorf("%q is not answered", data)
		}
		must(t, s.live.Disconnect(context.Background(), k.id))
	})
}
