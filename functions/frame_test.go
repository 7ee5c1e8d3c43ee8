package functions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
)

// sends posts a message by frame, with the fields of a body of PUT or POST messages, and returns
// the problem or the message it is answered with.
func (s *socket) sends(room, id, body string) map[string]any {
	s.r.t.Helper()
	fields := fmt.Sprintf(`{"action":"send","room":%q`, strings.TrimPrefix(room, "/v1/rooms/"))
	if id != "" {
		fields += fmt.Sprintf(`,"id":%q`, id)
	}
	return s.plain(fields + "," + strings.TrimPrefix(body, "{"))
}

// plain sends a frame and returns the problem, or else the message, of its one answer.
func (s *socket) plain(text string) map[string]any {
	s.r.t.Helper()
	f := s.ask(text)
	var got struct{ Problem, Message map[string]any }
	must(s.r.t, json.Unmarshal(f.text, &got))
	if got.Problem != nil {
		return got.Problem
	}
	if f.Type == "sent" {
		got.Message["repeat"] = f.Repeat
	}
	return got.Message
}

// sameAnswer compares what a frame and a request were answered with, apart from what each answer has
// of its own.
func sameAnswer(t *testing.T, byFrame, byRequest map[string]any, own ...string) {
	t.Helper()
	if byFrame["code"] != nil && (byFrame["request_id"] == "" || byFrame["request_id"] == byRequest["request_id"]) {
		t.Errorf("the request id is %v", byFrame["request_id"])
	}
	for _, field := range append(own, "request_id") {
		if (byFrame[field] == nil) != (byRequest[field] == nil) {
			t.Errorf("%s is in one answer alone", field)
		}
		delete(byFrame, field)
		delete(byRequest, field)
	}
	x, err := json.Marshal(byFrame)
	must(t, err)
	y, err := json.Marshal(byRequest)
	must(t, err)
	if !bytes.Equal(x, y) {
		t.Errorf("by frame\n%s\nby request\n%s", x, y)
	}
}

// A message sent by frame is judged as one that is posted by request, whatever is wrong with it.
func TestFrameIsRequest(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	archived, private := ada.room(`{"name":"Old"}`), ada.room(`{"name":"Hidden","private":true}`)
	ada.patch(archived, `{"archived":true}`).want(200)
	s.as("mallory").put(s.room+"/members/mallory", "").want(200)
	ada.put(s.room+"/bans/mallory", "").want(200)
	taken := ada.mint()
	ada.put(s.room+"/messages/"+taken.String(), `{"text":"first"}`).want(201)
	const hello = `{"text":"hello"}`
	unknown := s.mint("ada").String()
	long := `{"text":"` + strings.Repeat("x", 20001) + `"}`
	late := s.mint("ada", s.mint("ada"))
	for _, tt := range []struct{ name, user, room, id, body, code string }{
		{"room", "ada", "/v1/rooms/engine", "", hello, "invalid_field"},
		{"unknown room", "ada", "/v1/rooms/" + unknown, "", hello, "room_not_found"},
		{"private room", "bob", private, "", hello, "room_not_found"},
		{"no member", "eve", s.room, "", hello, "not_a_member"},
		{"banned", "mallory", s.room, "", hello, "banned"},
		{"archived", "ada", archived, "", hello, "room_archived"},
		{"no text", "ada", s.room, "", `{"text":""}`, "invalid_field"},
		{"long text", "ada", s.room, "", long, "invalid_field"},
		{"half a character", "ada", s.room, "", `{"text":"\ud800"}`, "invalid_field"},
		{"null", "ada", s.room, "", `{"text":null}`, "invalid_field"},
		{"number", "ada", s.room, "", `{"text":1}`, "invalid_field"},
		{"twice", "ada", s.room, "", `{"text":"a","text":"b"}`, "invalid_field"},
		{"unknown field", "ada", s.room, "", `{"text":"a","title":"b"}`, "invalid_field"},
		{"reply_to", "ada", s.room, "", `{"text":"a","reply_to":"x"}`, "invalid_field"},
		{"reply to nothing", "ada", s.room, "", `{"text":"a","reply_to":"` + unknown + `"}`, "message_not_found"},
		{"thread of nothing", "ada", s.room, "", `{"text":"a","thread":"` + unknown + `"}`, "message_not_found"},
		{"after", "ada", s.room, "", `{"text":"a","after":"x"}`, "invalid_field"},
		{"after the future", "ada", s.room, "", `{"text":"a","after":"` + s.mintAt("bob", s.now().Add(time.Hour)).String() + `"}`, "invalid_field"},
		{"id", "ada", s.room, "x", hello, "invalid_field"},
		{"id of another", "ada", s.room, s.mint("bob").String(), hello, "id_not_yours"},
		{"id in future", "ada", s.room, s.mintAt("ada", s.now().Add(time.Hour)).String(), hello, "id_in_future"},
		{"id in past", "ada", s.room, s.mintAt("ada", s.now().Add(-48*time.Hour)).String(), hello, "id_in_past"},
		{"id before after", "ada", s.room, taken.String(), `{"text":"a","after":"` + late.String() + `"}`, "id_order"},
		{"id taken", "ada", s.room, taken.String(), `{"text":"second"}`, "id_taken"},
		{"repeat", "ada", s.room, taken.String(), `{"text":"first"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parent := s.region.t
			s.region.t = t
			defer func() { s.region.t = parent }()
			c := s.as(tt.user)
			k := c.open()
			defer k.gone()
			byFrame := k.sends(tt.room, tt.id, tt.body)
			var a *answer
			if tt.id == "" {
				a = c.post(tt.room+"/messages", tt.body)
			} else {
				a = c.put(tt.room+"/messages/"+tt.id, tt.body)
			}
			var byRequest map[string]any
			a.into(&byRequest)
			if tt.code != "" && byRequest["code"] != tt.code {
				t.Errorf("it is answered with %s, want %s", byRequest["code"], tt.code)
			}
			if byRequest["code"] == nil {
				byRequest["repeat"] = a.status == 200
			}
			sameAnswer(t, byFrame, byRequest, "time")
		})
	}
}

// A message that is accepted is answered alike, too: with the same fields, under another id.
func TestFrameIsAccepted(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	m := s.message.String()
	for _, body := range []string{
		`{"text":"<b> & \u2028"}`, `{"text":"a","reply_to":"` + m + `"}`,
		`{"text":"a","thread":"` + m + `","after":"` + strings.ToLower(m) + `"}`, `{"text":"a","reply_to":"","thread":"","after":""}`,
	} {
		var byRequest map[string]any
		ada.post(s.room+"/messages", body).want(201).into(&byRequest)
		byRequest["repeat"] = false
		sameAnswer(t, ada.open().sends(s.room, "", body), byRequest, "id", "sent_at")
	}
}

// What befalls the log befalls both.
func TestFrameFails(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	for name, fail := range map[string]func(){
		"not stored": func() { s.log.OnAppend = logtest.Script(logtest.NotStored) },
		"not read":   func() { s.log.OnRead = func(events.Stream) error { return events.ErrUnavailable } },
		"unknown outcome": func() {
			s.log.OnAppend = logtest.Script(logtest.Stored)
			appended := 0
			s.log.OnRead = func(events.Stream) error {
				if appended++; appended > 1 { // not of reply_to
					return events.ErrThrottled
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"text":"a","reply_to":"` + s.message.String() + `"}`
			fail()
			byFrame := ada.open().sends(s.room, "", body)
			fail()
			var byRequest map[string]any
			ada.post(s.room+"/messages", body).into(&byRequest)
			s.log.OnAppend, s.log.OnRead = nil, nil
			if byRequest["status"] != 503.0 {
				t.Errorf("it is answered with %v", byRequest)
			}
			sameAnswer(t, byFrame, byRequest, "id")
		})
	}
}

// Frames and requests of a user count against the same rate, and an operator's socket may import.
func TestFrameIsCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rate = 1
	w.step.Store(0)
	r := w.region(t, "eu")
	ada := r.as("ada")
	room := ada.room(`{"name":"Engine"}`)
	k, other := ada.open(), ada.open()
	k.sends(room, "", `{"text":"a"}`)
	other.sends(room, "", `{"text":"b"}`)
	ada.post(room+"/messages", `{"text":"c"}`).want(201)
	byFrame := k.sends(room, "", `{"text":"d"}`)
	var byRequest map[string]any
	ada.post(room+"/messages", `{"text":"d"}`).refused(429, "rate_limited").into(&byRequest)
	sameAnswer(t, byFrame, byRequest)
	w.pass(10 * time.Second)
	old := w.mintAt("ada", w.now().Add(-1000*time.Hour)).String()
	if got := r.operator("ada").open().sends(room, old, `{"text":"imported"}`); got["id"] != old {
		t.Errorf("an operator's import is answered with %v", got)
	}
}

// A catch-up by frame is judged as GET /v1/sync is.
func TestCatchUpIsRequest(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	mine, bobs := ada.cursor(), s.as("bob").cursor()
	for _, tt := range []struct {
		cursor string
		limit  int
	}{{"x", 1}, {bobs, 1}, {strings.Repeat("x", 300), 1}, {mine, 0}, {mine, -1}, {mine, 201}} {
		var byRequest map[string]any
		ada.get(fmt.Sprintf("/v1/sync?cursor=%s&limit=%d", url.QueryEscape(tt.cursor), tt.limit)).into(&byRequest)
		byFrame := ada.open().plain(fmt.Sprintf(`{"action":"catchup","cursor":%q,"limit":%d}`, tt.cursor, tt.limit))
		if byRequest["code"] == nil {
			t.Errorf("%+v is answered with %v", tt, byRequest)
		}
		sameAnswer(t, byFrame, byRequest)
	}

	for _, text := range []string{"one", "two <b>", "three"} {
		ada.say(s.room, text)
	}
	s.Sync()
	var page struct {
		Events      []map[string]any
		More, Reset bool
	}
	ada.get("/v1/sync?limit=2&cursor=" + url.QueryEscape(mine)).want(200).into(&page)
	frames := ada.open().send(fmt.Sprintf(`{"action":"catchup","cursor":%q,"limit":2}`, mine))
	if len(frames) != 3 || frames[2].Type != "caught_up" || frames[2].More != page.More || !page.More || page.Reset {
		t.Fatalf("it catches up with %+v, and %+v", frames, page)
	}
	for i, e := range page.Events {
		var f map[string]any
		must(t, json.Unmarshal(frames[i].text, &f))
		if f["type"] != "event" || f["cursor"] != mine {
			t.Errorf("the frame is %v", f)
		}
		delete(f, "type")
		delete(f, "cursor")
		sameAnswer(t, f, e)
	}
}
