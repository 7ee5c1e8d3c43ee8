package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/infra/lambda/config"
	"parley/projections"
)

// TestConversation is held through the real binary: HTTP events in, records of the real stream
// out, and from them views and the bus.
func TestConversation(t *testing.T) {
	c := newCloud(t, nil)
	ada, bob := c.user("ada"), c.user("bob")
	room := "/v1/rooms/" + ada.must("POST", "/v1/rooms", `{"name":"Hello"}`).text("id")
	bob.must("PUT", room+"/members/bob", "{}") // at once: no stream has run
	first := ada.post(room, "first "+secret)
	second := bob.post(room, "second")
	third := ada.post(room, "third")
	edited := ada.must("PATCH", room+"/messages/"+first, `{"text":"first, mended"}`).text("event")
	for _, emoji := range []string{"👍", "#️⃣", "👩‍🚀"} {
		bob.must("PUT", room+"/messages/"+first+"/reactions/"+strings.ReplaceAll(emoji, "#", "%23"), "")
	}
	bob.must("DELETE", room+"/messages/"+second, "")

	// Before the stream has run only what is included is there.
	if got := texts(ada.messages(room + "/messages?includes=" + edited)); got != "first, mended" {
		t.Errorf("before the stream has run, with the edit included, there is %q", got)
	}
	if got := ada.messages(room + "/messages"); len(got) != 0 {
		t.Errorf("before the stream has run there is %v", got)
	}
	c.settle()
	got := ada.messages(room + "/messages")
	if len(got) != 3 || got[0].ID != first || got[0].Text != "first, mended" || got[0].Author != "ada" ||
		!got[1].Deleted || got[2].ID != third || got[2].Text != "third" {
		t.Errorf("after the stream has run there is %v", got)
	}
	want := map[string][]string{"👍": {"bob"}, "#️⃣": {"bob"}, "👩‍🚀": {"bob"}}
	if !maps.EqualFunc(got[0].Reactions, want, slices.Equal) {
		t.Errorf("the reactions are %v", got[0].Reactions)
	}
	c.checkBus(10)
	c.checkSealed(secret)
	c.checkFeed(room, 10)
	for metric, function := range map[string]string{config.Accepted: config.Command, config.Projected: config.Stream, config.Published: config.Stream} {
		if n := c.counted(function, metric); n != 10 {
			t.Errorf("%s is %d, want 10", metric, n)
		}
	}
	if lag := c.counted(config.Stream, config.PublishedLag); lag <= 0 || lag > 10*60_000 {
		t.Errorf("the lags add up to %d ms", lag)
	}
	if n := len(c.functions[config.Command].metrics.lines()); n != 10 {
		t.Errorf("10 commands wrote %d lines of metrics", n)
	}
}

// checkBus checks that the log's events are on the bus, once each, as they are in the log.
func (c *cloud) checkBus(want int) {
	c.t.Helper()
	entries := c.bus.entries()
	if len(entries) != want || len(c.bus.counts()) != want {
		c.t.Errorf("there are %d entries of %d events on the bus, want %d", len(entries), len(c.bus.counts()), want)
	}
	for _, e := range entries {
		var detail struct {
			ID, Stream, Type, Actor, Region string
			PublishedBy                     string `json:"published_by"`
			Data                            json.RawMessage
		}
		if err := json.Unmarshal([]byte(e.Detail), &detail); err != nil {
			c.t.Fatal(err)
		}
		id, err := events.ParseID("id", detail.ID)
		if err != nil || e.Source != "parley" || e.DetailType != detail.Type || e.EventBusName != "parley" || detail.Region != inRegion ||
			detail.PublishedBy != inRegion || len(detail.Data) == 0 || e.Time != float64(id.Timestamp().UnixMilli())/1000 {
			c.t.Errorf("on the bus is %+v", e)
		}
	}
}

// checkFeed checks that so many events have entered a room's feed, densely and none of them twice.
func (c *cloud) checkFeed(room string, want int) {
	c.t.Helper()
	stream := events.RoomStream(strings.TrimPrefix(room, "/v1/rooms/"))
	feed, _, err := projections.ListFeed(c.t.Context(), c.views, stream, 0, 10_000)
	if err != nil {
		c.t.Fatal(err)
	}
	type arrival struct {
		id       events.ID
		replaced bool
	}
	seen := map[arrival]bool{}
	for i, entry := range feed {
		a := arrival{entry.ID, entry.Replaced}
		if entry.Position != uint64(i+1) || seen[a] {
			c.t.Errorf("entry %d of the feed has position %d and id %s", i, entry.Position, entry.ID)
		}
		seen[a] = true
	}
	if len(feed) != want {
		c.t.Errorf("the feed has %d entries, want %d", len(feed), want)
	}
}

// A beat goes round through log, stream and views, and health tells it.
func TestBeatAndHealth(t *testing.T) {
	c := newCloud(t, nil)
	for range 2 {
		answer, err := c.functions[config.Beat].invoke([]byte(`{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`))
		if err != nil || !json.Valid(answer) {
			t.Fatalf("%s, %v", answer, err)
		}
	}
	c.settle()
	r := c.user("nobody").get("/health")
	var report struct {
		Region, Status string
		Frontiers      map[string]float64
	}
	r.into(&report)
	if r.status != http.StatusOK || report.Status != "ok" || report.Region != inRegion {
		t.Errorf("%d %s", r.status, r.body)
	}
	if beat, ok := report.Frontiers[inRegion]; !ok || beat < 0 || beat > 60 {
		t.Errorf("the frontiers are %v", report.Frontiers)
	}
	if n := c.counted(config.Beat, config.Accepted); n != 2 {
		t.Errorf("%d beats were counted", n)
	}
}

// Whichever function answers, the document is that of the whole API.
func TestOneDocument(t *testing.T) {
	c := newCloud(t, nil)
	var documents [2][]byte
	for i, name := range []string{config.Command, config.Query} {
		text, err := c.functions[name].invoke([]byte(`{"rawPath":"/openapi.json","requestContext":{"http":{"method":"GET"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		documents[i] = readAnswer(t, text).body
	}
	if !bytes.Equal(documents[0], documents[1]) || !bytes.Contains(documents[0], []byte(`"postMessage"`)) || !bytes.Contains(documents[0], []byte(`"listMessages"`)) {
		t.Errorf("the documents have %d and %d bytes", len(documents[0]), len(documents[1]))
	}
}

// TestBadEvents is what none of the functions may fall over: it answers, or fails the invocation,
// and the same process answers the next one.
func TestBadEvents(t *testing.T) {
	c := newCloud(t, nil)
	for _, name := range config.Functions {
		f := c.functions[name]
		for _, payload := range []string{
			``, `{`, `null`, `[]`, `{}`, `7`, `"text"`, `{"Records":null}`, `{"Records":[]}`, `{"Records":[7]}`, `{"Records":[{}]}`,
			`{"Records":[{"dynamodb":{"NewImage":7}}]}`, `{"requestContext":{"http":{"method":""}}}`,
			`{"requestContext":{"http":{"method":"POST"}},"body":"%","isBase64Encoded":true}`,
			`{"rawPath":"\u0000%zz//..","rawQueryString":"%","headers":{"":"","a b":"\n"},"requestContext":{"http":{"method":"G T"}}}`,
			`{"rawPath":"/v1/rooms","headers":{"authorization":"Bearer x.y.z","content-type":";"},"body":"` + strings.Repeat("x", 100_000) + `","requestContext":{"http":{"method":"POST"}}}`,
		} {
			_, err := f.invoke([]byte(payload))
			if err == errExited { //nolint:errorlint // it is returned as it is
				t.Errorf("%s: the process does not survive %.100s", name, payload)
			}
			if name == config.Stream && err == nil {
				t.Errorf("the stream function takes %s", payload)
			}
		}
		if f.starts != 1 {
			t.Errorf("%s was started %d times", name, f.starts)
		}
	}
}

// A client whose token is another issuer's is not let in.
func TestForeignToken(t *testing.T) {
	c := newCloud(t, nil)
	foreign := user{c, "eve", newIssuer(t).token("eve")}
	if r := foreign.do("POST", "/v1/rooms", `{"name":"x"}`); r.status != http.StatusUnauthorized {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// A long answer comes through whole.
func TestLongPage(t *testing.T) {
	c := newCloud(t, nil)
	ada := c.user("ada")
	room := "/v1/rooms/" + ada.must("POST", "/v1/rooms", `{"name":"Long"}`).text("id")
	long := strings.Repeat("👋<&>", 1000)
	for i := range 30 {
		ada.post(room, fmt.Sprint(i, long))
	}
	start := time.Now()
	c.settle()
	got := ada.messages(room + "/messages?limit=30")
	if len(got) != 30 || got[29].Text != "29"+long {
		t.Errorf("there are %d messages", len(got))
	}
	t.Logf("30 long messages handled and read in %s", time.Since(start))
}
