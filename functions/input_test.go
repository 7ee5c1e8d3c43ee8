package functions_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/events"
)

// bodies are the commands with a body, with one that is good.
var bodies = []struct {
	name, method, path, good, field string // field is one that takes a string
}{
	{"postMessage", "POST", "{room}/messages", `{"text":"` + secret + `"}`, "text"},
	{"putMessage", "PUT", "{room}/messages/{new}", `{"text":"` + secret + `"}`, "text"},
	{"editMessage", "PATCH", "{room}/messages/{message}", `{"text":"` + secret + `"}`, "text"},
	{"createRoom", "POST", "/v1/rooms", `{"name":"` + secret + `"}`, "name"},
	{"putRoom", "PUT", "/v1/rooms/{new}", `{"name":"` + secret + `"}`, "name"},
	{"changeRoom", "PATCH", "{room}", `{"topic":"` + secret + `"}`, "topic"},
	{"setRead", "PUT", "{room}/read", `{"up_to":"{message}"}`, "up_to"},
	{"setUnread", "PUT", "{room}/unread", `{"from":"{message}"}`, "from"},
	{"setProfile", "PUT", "/v1/users/ada", `{"name":"` + secret + `"}`, "name"},
	{"changeRole", "PATCH", "{room}/members/bob", `{"role":"admin"}`, "role"},
	{"putMember", "PUT", "{room}/members/eve", `{"role":"member"}`, "role"},
}

// Every body in every way in which it can be wrong.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	for _, b := range bodies {
		t.Run(b.name, func(t *testing.T) {
			s := newScene(t)
			ada := s.as("ada")
			send := func(body string) *answer { return ada.do(b.method, s.fill("ada", b.path), s.fill("ada", body)) }
			inner := strings.TrimSuffix(strings.TrimPrefix(b.good, "{"), "}")
			value := `"` + b.field + `":`
			for _, bad := range []string{
				"null", "[]", `"` + secret + `"`, "1", "true", secret, "{", inner, `{"` + b.field + `"`, `{` + inner, `{` + inner + `,}`,
				b.good + ` x`, b.good + b.good, b.good + `{}`, b.good + `]`, "\ufeff" + b.good, `{'` + b.field + `':1}`, `{` + inner + `,"x"}`,
				strings.Repeat("[", 60_000), `{` + value + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000-1) + `}`, " ",
			} {
				send(bad).refused(400, "malformed_body").names("body")
			}
			for _, bad := range []string{
				`{` + value + "\"\xff\"}", `{` + value + "\"a\xc3\"}", "\xff", `{` + value + `"\ud800"}`, `{` + value + `"\udc00"}`,
				`{` + value + `"\ud800\ud800"}`, `{` + value + `"\uDBFFa"}`, `{"\ud800":1}`,
			} {
				send(bad).refused(422, "invalid_field").names("body")
			}
			for _, bad := range []string{
				`{` + value + `null}`, `{` + value + `1}`, `{` + value + `true}`, `{` + value + `[]}`, `{` + value + `{}}`, `{` + value + `["a"]}`,
				`{` + value + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `}`, `{` + inner + `,` + inner + `}`,
			} {
				send(bad).refused(422, "invalid_field").names(b.field)
			}
			send(`{`+inner+`,"colour":"`+secret+`"}`).refused(422, "invalid_field").names("colour")
			send(`{"`+strings.ToUpper(b.field)+`":"a"}`).refused(422, "invalid_field").names(strings.ToUpper(b.field))
			send(`{"`+strings.Repeat("x", 1000)+`":1}`).refused(422, "invalid_field").names(strings.Repeat("x", 64) + "…")
			if b.name != "putMember" { // adds a member with the usual role
				if a := send(`{}`).refused(422, "invalid_field"); b.name != "changeRoom" {
					a.names(b.field)
				}
				send("").refused(400, "malformed_body").names("body")
			}
			if a := send(b.good); a.status >= 300 {
				t.Errorf("the good body is refused: %d %s", a.status, a.body)
			}
		})
	}
}

func TestEscapes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	for body, want := range map[string]string{
		`{"text":"\ud83d\ude00 \uD83D\uDE00"}`: "😀 😀",
		`{"text":"\\ud800 \\\\ \u0000 \/"}`:    `\ud800 \\ ` + "\x00 /",
		`{"te\u0078t":"x"}`:                    "x",
		"\t\r\n {\"text\" : \"<&>\"} \n":       "<&>",
		`{"text":"�"}`:                         "�",
	} {
		if got := ada.post(s.room+"/messages", body).want(201).text("text"); got != want {
			t.Errorf("%s became %q", body, got)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for media, status := range map[string]int{
		"application/json": 201, "application/json; charset=utf-8": 201, "Application/JSON": 201, "": 201,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "application/merge-patch+json": 415, "json": 415, ";;;": 415, secret: 415,
	} {
		a := s.as("ada").with("Content-Type", media).post(s.room+"/messages", `{"text":"a"}`)
		if a.want(status); status == 415 {
			a.refused(415, "unsupported_media_type")
		}
	}
	for _, accept := range []string{"text/html", "json", "application/problem+json", "*/*;q=0", "application/xml, text/plain"} {
		s.as("ada").with("Accept", accept).get(s.room).want(200) // as JSON, always
	}
}

// The limits, each at its edge and one beyond.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	x := func(n int) string { return strings.Repeat("x", n) }
	messages := s.room + "/messages"
	ada.post(messages, `{"text":"`+x(20_000)+`"}`).want(201)
	ada.post(messages, `{"text":"`+x(20_001)+`"}`).refused(422, "invalid_field").names("text")
	ada.post(messages, `{"text":"`+strings.Repeat("é", 10_000)+`"}`).want(201)
	ada.post(messages, `{"text":"`+strings.Repeat("é", 10_000)+`x"}`).refused(422, "invalid_field").names("text")
	ada.post(messages, `{"text":""}`).refused(422, "invalid_field").names("text")

	body := `{"text":"a"}`
	ada.post(messages, body+strings.Repeat(" ", 65_536-len(body))).want(201)
	ada.post(messages, body+strings.Repeat(" ", 65_537-len(body))).refused(413, "body_too_large")
	ada.post(messages, x(1<<20)).refused(413, "body_too_large")

	for n, status := range map[int]int{0: 422, 1: 201, 100: 201, 101: 422} {
		ada.post("/v1/rooms", `{"name":"`+strings.Repeat("é", n)+`"}`).want(status)
	}
	ada.post("/v1/rooms", `{"name":"a","topic":"`+x(500)+`"}`).want(201)
	ada.post("/v1/rooms", `{"name":"a","topic":"`+x(501)+`"}`).refused(422, "invalid_field").names("topic")
	ada.post("/v1/rooms", `{"name":"a\nb"}`).refused(422, "invalid_field").names("name")
	ada.post("/v1/rooms", `{"name":"  "}`).refused(422, "invalid_field").names("name")
	ada.patch(s.room, `{}`).refused(422, "invalid_field")
	ada.patch(s.room, `{"private":1}`).refused(422, "invalid_field").names("private")
	ada.patch(s.room, `{"archived":true,"name":"x"}`).refused(422, "invalid_field").names("archived")
	ada.put("/v1/users/ada", `{"name":"a","about":"`+x(501)+`"}`).refused(422, "invalid_field").names("about")
	ada.put("/v1/users/bob", `{"name":"a"}`).refused(403, "not_you")

	ada.put(s.room+"/members/"+x(120), "").want(200)
	ada.put(s.room+"/members/"+x(121), "").refused(422, "invalid_field").names("user")
	ada.put("/v1/direct/"+x(121), "").refused(422, "invalid_field").names("user")
	ada.put("/v1/direct/ada", "").refused(422, "invalid_field").names("user")

	for limit, status := range map[string]int{"0": 422, "1": 200, "200": 200, "201": 422, "-1": 422, "abc": 422, "1.5": 422, "": 200, "99999999999999999999": 422} {
		for _, path := range []string{messages, s.room + "/members", "/v1/rooms", s.about("/replies")} {
			if a := ada.get(path + "?limit=" + limit).want(status); status == 422 {
				a.refused(422, "invalid_field").names("limit")
			}
		}
	}
}

func TestEmoji(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for emoji, status := range map[string]int{
		"👍": 200, "👍🏽": 200, "❤️": 200, "🏴󠁧󠁢󠁥󠁮󠁧󠁿": 200, "a": 200, ":+1:": 200, ":" + strings.Repeat("x", 62) + ":": 200,
		"👩🏽‍❤️‍💋‍👨🏻": 200, ":" + strings.Repeat("x", 63) + ":": 422, "👍👍": 422, "ab": 422, " ": 422, "::": 422, ":A:": 422, "\u200d": 422, "\xff": 422, "\x00": 422, "a/b": 422,
	} {
		escaped := url.PathEscape(emoji)
		a := s.as("ada").put(s.about("/reactions/"+escaped), "").want(status)
		b := s.as("ada").delete(s.about("/reactions/" + escaped)).want(status)
		if status == 422 {
			a.refused(422, "invalid_field").names("emoji")
			b.refused(422, "invalid_field").names("emoji")
		}
	}
}

// With and without variation selectors an emoji is one reaction, to add and to remove, also where a former release
// stored another form, in whichever order the events arrive.
func TestOneEmojiIsOneReaction(t *testing.T) {
	t.Parallel()
	for want, forms := range map[string][]string{
		"❤️": {"❤", "❤️", "❤︎"}, "👍": {"👍", "👍️"}, "🏳️‍🌈": {"🏳‍🌈", "🏳️‍🌈"}, "1️⃣": {"1⃣", "1️⃣"}, "é": {"e\u0301", "é"},
		"👩🏽‍❤️‍💋‍👨🏻": {"👩🏽‍❤‍💋‍👨🏻", "👩🏽‍❤️‍💋‍👨🏻"}, "☝🏽": {"☝🏽", "☝️🏽"},
	} {
		s := newScene(t)
		shown := func(users ...any) {
			t.Helper()
			s.Sync()
			reactions := map[string]any{}
			if len(users) > 0 {
				reactions[want] = users
			}
			if diff := cmp.Diff(reactions, s.as("ada").get(s.about("")).want(200).value("reactions")); diff != "" {
				t.Errorf("%+q (-want +got):\n%s", forms, diff)
			}
		}
		for i, form := range forms {
			path := s.about("/reactions/" + url.PathEscape(form))
			s.as("ada").put(path, "").want(200)
			key := s.mint("bob", s.message).String()
			s.as("bob").with("Idempotency-Key", key).put(path, "").want(200)
			other := s.about("/reactions/" + url.PathEscape(forms[(i+1)%len(forms)]))
			if again := s.as("bob").with("Idempotency-Key", key).put(other, "").want(200); again.value("repeat") != true {
				t.Errorf("%+q: the same command in another form is not a repeat: %s", form, again.body)
			}
			shown("ada", "bob")
			s.as("ada").delete(other).want(200)
			shown("bob")
			s.as("bob").delete(path).want(200)
			shown()
		}
		// As a former release stored them.
		at := s.mint("ada", s.message)
		react := func(user, form string, p func(events.ReactionAdded) events.Payload) {
			t.Helper()
			at = s.mint(user, at)
			e, err := events.New(at, events.RoomStream(strings.TrimPrefix(s.room, "/v1/rooms/")), user, "eu", p(events.ReactionAdded{Message: s.message, Emoji: form}))
			must(t, err)
			_, _, err = s.store.Append(t.Context(), e)
			must(t, err)
		}
		on := func(p events.ReactionAdded) events.Payload { return p }
		off := func(p events.ReactionAdded) events.Payload { return events.ReactionRemoved(p) }
		for i, user := range []string{"ada", "bob"} {
			react(user, forms[i%len(forms)], on)
		}
		shown("ada", "bob")
		react("ada", forms[1], off)
		shown("bob")
		s.as("bob").delete(s.about("/reactions/" + url.PathEscape(forms[0]))).want(200)
		shown()
	}
}

// What a user writes shows something, by each command and in each field.
func TestNothingVisible(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	for _, blank := range []string{`   `, `\n\n`, `\u200b\u200d\ufeff`, `\u2800`, `\u3164`, `\u0000`, `\u00ad\u2060 \t`, `\ufe0f`, `\ud834\udd59`} {
		ada.post(s.room+"/messages", `{"text":"`+blank+`"}`).refused(422, "invalid_field").names("text")
		ada.put(s.room+"/messages/"+ada.mint().String(), `{"text":"`+blank+`"}`).refused(422, "invalid_field").names("text")
		ada.patch(s.about(""), `{"text":"`+blank+`"}`).refused(422, "invalid_field").names("text")
		ada.post("/v1/rooms", `{"name":"`+blank+`"}`).refused(422, "invalid_field").names("name")
		ada.patch(s.room, `{"name":"`+blank+`"}`).refused(422, "invalid_field").names("name")
		ada.put("/v1/users/ada", `{"name":"`+blank+`"}`).refused(422, "invalid_field").names("name")
	}
	for _, text := range []string{`a`, ` . `, `\u200b!`, `👍`, `\u2801`, `\u0000x`} {
		ada.post(s.room+"/messages", `{"text":"`+text+`"}`).want(201)
	}
}

// One member can use up a share of a message's reactions, those taken off again included, and many
// members the whole.
func TestReactionsPerMessage(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	emoji := func(n int) string { return s.about("/reactions/:" + strings.Repeat("x", 1+n) + ":") }
	for n := range 20 {
		s.as("ada").put(emoji(n), "").want(200)
	}
	s.Sync()
	s.as("ada").put(emoji(20), "").refused(409, "too_many_reactions")
	s.as("ada").delete(emoji(0)).want(200)
	s.Sync()
	s.as("ada").put(emoji(20), "").refused(409, "too_many_reactions")
	s.as("ada").put(emoji(0), "").want(200)
	for u := range 49 {
		user := s.as("user" + strconv.Itoa(u))
		user.put(s.room+"/members/user"+strconv.Itoa(u), "").want(200)
		for n := range 20 {
			user.put(emoji(n), "").want(200)
		}
	}
	s.Sync()
	s.as("bob").put(emoji(0), "").refused(409, "too_many_reactions")
	s.as("ada").put(emoji(1), "").want(200)
}

// Ids in every place: lower case is taken for upper case, and what is no id is named.
func TestIDsInPlaces(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	lower := strings.ToLower
	id := ada.mint(s.message)
	m := lower(s.message.String())
	a := ada.put(lower(s.room)+"/messages/"+lower(id.String()), `{"text":"a","reply_to":"`+m+`","thread":"`+m+`","after":"`+m+`"}`).want(201)
	if a.id() != id || a.text("reply_to") != s.message.String() || "/v1/rooms/"+a.text("room") != s.room {
		t.Errorf("the message is %s", a.body)
	}
	ada.put(s.room+"/messages/"+id.String(), `{"text":"a","reply_to":"`+s.message.String()+`","thread":"`+s.message.String()+`"}`).want(200)
	s.Sync()
	for _, path := range []string{
		"/messages/" + m, "/messages?before=" + m, "/messages?after=" + m, "/messages?around=" + m, "/messages?as_of=" + m,
		"/messages?includes=" + m, "/messages/" + m + "/replies?includes=" + m, "/members?includes=" + m,
	} {
		ada.get(lower(s.room) + path).want(200)
	}
	ada.with("Idempotency-Key", lower(ada.mint().String())).post(s.room+"/messages", `{"text":"b"}`).want(201)
	ada.put(s.room+"/read", `{"up_to":"`+m+`"}`).want(200)
	direct := ada.put("/v1/direct/bob", "").want(201).text("id")
	ada.get("/v1/rooms/" + "direct-" + lower(direct[7:])).want(200)
	ada.get("/v1/rooms/DIRECT-"+direct[7:]).refused(422, "invalid_field").names("room")
	ada.get("/v1/rooms?after=" + lower(strings.TrimPrefix(s.room, "/v1/rooms/"))).want(200)

	for _, bad := range []string{"x", m[1:], m + "0", "8" + m[1:], "u" + m[1:], "01ARZ3NDEKTSV4RRFFQ69G5FA*", "direct-", "direct-x", "💥"} {
		bad := url.PathEscape(bad)
		ada.get("/v1/rooms/"+bad).refused(422, "invalid_field").names("room")
		ada.put("/v1/rooms/"+bad, `{"name":"a"}`).refused(422, "invalid_field").names("room")
		ada.get(s.room+"/messages/"+bad).refused(422, "invalid_field").names("id")
		ada.put(s.room+"/messages/"+bad, `{"text":"a"}`).refused(422, "invalid_field").names("id")
		ada.patch(s.room+"/messages/"+bad, `{"text":"a"}`).refused(422, "invalid_field").names("id")
		ada.delete(s.room+"/messages/"+bad).refused(422, "invalid_field").names("id")
		for _, field := range []string{"before", "after", "around", "as_of", "includes"} {
			ada.get(s.room+"/messages?"+field+"="+bad).refused(422, "invalid_field").names(field)
		}
		ada.get("/v1/rooms?after="+bad).refused(422, "invalid_field").names("after")
		ada.get("/v1/rooms?includes="+bad).refused(422, "invalid_field").names("includes")
		for _, field := range []string{"reply_to", "thread", "after"} {
			ada.post(s.room+"/messages", `{"text":"a","`+field+`":"`+bad+`"}`).refused(422, "invalid_field").names(field)
		}
		ada.put(s.room+"/read", `{"up_to":"`+bad+`"}`).refused(422, "invalid_field").names("up_to")
		eachKeyed := map[string]*answer{
			"POST": ada.with("Idempotency-Key", bad).post(s.room+"/messages", `{"text":"a"}`), "join": ada.with("Idempotency-Key", bad).put(s.room+"/members/ada", ""),
			"direct": ada.with("Idempotency-Key", bad).put("/v1/direct/bob", ""),
		}
		for _, a := range eachKeyed {
			a.refused(422, "invalid_field").names("Idempotency-Key")
		}
	}
	zero := events.ID{}.String()
	ada.patch(s.room+"/messages/"+zero, `{"text":"a"}`).refused(422, "invalid_field").names("id")
	ada.put(s.room+"/messages/"+zero+"/pin", "").refused(422, "invalid_field").names("id")
	ada.post(s.room+"/messages", `{"text":"a","reply_to":"`+zero+`"}`).refused(422, "invalid_field").names("reply_to")
	ada.get(s.room+"/messages/"+zero).refused(404, "message_not_found")
	ada.get("/v1/rooms/"+zero).refused(404, "room_not_found")
	ada.put(s.room+"/members/a%2Fb", "").refused(422, "invalid_field").names("user")
	ada.get(s.room+"/members/"+url.PathEscape("💥")).refused(422, "invalid_field").names("user")
	ada.get(s.room+"/members?after=a%2Fb").refused(422, "invalid_field").names("after")
	ada.get("/v1/users/a%20b").refused(422, "invalid_field").names("user")
}

func TestBadQueries(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	m := s.message.String()
	messages := s.room + "/messages"
	for query, field := range map[string]string{
		"colour=red": "colour", "Limit=1": "Limit", "before=" + m + "&after=" + m: "after", "after=" + m + "&around=" + m: "around",
		"before=" + m + "&around=" + m: "around", "as_of=" + m + "&includes=" + m: "includes", "as_of=yesterday": "as_of", "as_of=2026-01-01": "as_of",
		"as_of=1969-12-31T23:59:59Z": "as_of", "as_of=2026-13-01T00:00:00Z": "as_of", "as_of=" + secret: "as_of", "limit=" + secret: "limit",
	} {
		ada.get(messages+"?"+query).refused(422, "invalid_field").names(field)
	}
	for _, query := range []string{"as_of=2026-07-01T12:00:00Z", "as_of=2026-07-01T14:00:00.123456789%2B02:00", "as_of=9999-12-31T23:59:59Z", "as_of=1970-01-01T00:00:00Z", "before=", "limit="} {
		ada.get(messages + "?" + query).want(200)
	}
	ada.get(s.about("/replies?around="+m)).refused(422, "invalid_field").names("around")
	ada.get("/v1/rooms?before="+m).refused(422, "invalid_field").names("before")
	ada.post("/v1/rooms?name=x", `{"name":"a"}`).refused(422, "invalid_field").names("name")
}

// A body that breaks off, as when a client goes away.
func TestBodyBreaksOff(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	req, err := http.NewRequest("POST", s.room+"/messages", brokenReader{})
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+s.token("ada", ""))
	if a := s.as("ada").send(req); a.status != 400 || a.code() != "malformed_body" {
		t.Errorf("answer %d %s", a.status, a.body)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errRefused }
