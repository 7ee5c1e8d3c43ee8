package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/events"
	"parley/functions/wire"
)

// script answers requests one after the other, and notes them.
type script struct {
	mu      sync.Mutex
	answers []func(w http.ResponseWriter, r *http.Request)
	ids     []string // the last part of each path
	at      []time.Time
	bodies  []map[string]any
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body)
	s.mu.Lock()
	s.ids, s.at, s.bodies = append(s.ids, path.Base(r.URL.Path)), append(s.at, time.Now()), append(s.bodies, body)
	answer := s.answers[min(len(s.ids), len(s.answers))-1]
	s.mu.Unlock()
	answer(w, r)
}

// fails answers with a problem.
func fails(p wire.Problem) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, &p) }
}

// posts answers with the message of the path.
func posts(w http.ResponseWriter, r *http.Request) {
	reply(w, map[string]any{"id": path.Base(r.URL.Path), "room": "r", "sent_at": time.Now()})
}

// dies breaks the connection off.
func dies(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// TestRetry sends a command again under its id until it is known to have happened.
func TestRetry(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		one := &script{answers: []func(http.ResponseWriter, *http.Request){
			dies,
			fails(wire.Problem{Status: 503, Code: "throttled", Retryable: true}),
			fails(wire.Problem{Status: 404, Code: "room_not_found", Retryable: true}),
			posts,
		}}
		n.serve(t, "one", one)
		c := n.client(t, "one")
		seen, err := c.Mint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.see(seen)
		m, err := c.Send(t.Context(), modelRooms[0], "hello")
		if err != nil {
			t.Fatal(err)
		}
		id := m.ID.String()
		if !slices.Equal(one.ids, []string{id, id, id, id}) {
			t.Errorf("it was sent as %v", one.ids)
		}
		if m.ID.Compare(seen) <= 0 || one.bodies[0]["after"] != seen.String() || !events.NewMarks(nil).Owns("ada", m.ID) {
			t.Errorf("id %s, after %v", m.ID, one.bodies[0])
		}
		next, err := c.Mint(t.Context())
		if err != nil || next.Compare(m.ID) <= 0 {
			t.Errorf("the next id is %s, %v", next, err)
		}
	})
}

// TestRetryAfter waits as long as the server says.
func TestRetryAfter(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		one := &script{answers: []func(http.ResponseWriter, *http.Request){
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "7")
				fails(wire.Problem{Status: 429, Code: "rate_limited", Retryable: true})(w, r)
			},
			posts,
		}}
		n.serve(t, "one", one)
		if _, err := n.client(t, "one").Send(t.Context(), modelRooms[0], "hello"); err != nil {
			t.Fatal(err)
		}
		if waited := one.at[1].Sub(one.at[0]); waited != 7*time.Second {
			t.Errorf("it waited %s", waited)
		}
	})
}

// TestElsewhere sends a command to the next endpoint at once.
func TestElsewhere(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		two := &script{answers: []func(http.ResponseWriter, *http.Request){posts}}
		n.serve(t, "one", two)
		n.serve(t, "two", two)
		n.setDown("one", true)
		c := n.client(t, "one", "two")
		began := time.Now()
		for range 100 {
			if _, err := c.Send(t.Context(), modelRooms[0], "hello"); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestNotYet gives up on a room that does not come to be known.
func TestNotYet(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		one := &script{answers: []func(http.ResponseWriter, *http.Request){fails(wire.Problem{Status: 404, Code: "room_not_found", Retryable: true})}}
		n.serve(t, "one", one)
		c := n.client(t, "one")
		began := time.Now()
		_, err := c.Send(t.Context(), modelRooms[0], "hello")
		if took := time.Since(began); !IsProblem(err, "room_not_found") || took < notYetCommand || took > notYetCommand+turnBackoff.Max {
			t.Errorf("%v after %s", err, took)
		}
		began = time.Now()
		_, err = c.Messages(t.Context(), modelRooms[0], Page{})
		if took := time.Since(began); !IsProblem(err, "room_not_found") || took < notYetQuery || took > 2*notYetQuery {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// TestUnsure says so if a command may have happened, and under which id to find out.
func TestUnsure(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		refusal := wire.Problem{Status: 403, Code: "not_a_member"}
		for name, tt := range map[string]struct {
			answers []func(http.ResponseWriter, *http.Request)
			unsure  bool
			code    string
		}{
			"refused":               {[]func(http.ResponseWriter, *http.Request){fails(refusal)}, false, "not_a_member"},
			"refused after a break": {[]func(http.ResponseWriter, *http.Request){dies, fails(refusal)}, true, "not_a_member"},
			"always broken":         {[]func(http.ResponseWriter, *http.Request){dies}, true, "no_answer"},
			"always limited":        {[]func(http.ResponseWriter, *http.Request){fails(wire.Problem{Status: 429, Code: "rate_limited", Retryable: true})}, false, "rate_limited"},
			"too slow":              {[]func(http.ResponseWriter, *http.Request){func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}, true, ""},
		} {
			s := &script{answers: tt.answers}
			n.serve(t, name[:1]+name[len(name)-1:], s)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := n.client(t, name[:1]+name[len(name)-1:]).Send(ctx, modelRooms[0], "hello")
			cancel()
			s.mu.Lock()
			var unsure *UnsureError
			if errors.As(err, &unsure) != tt.unsure || tt.unsure && unsure.ID.String() != s.ids[0] || tt.code != "" && !IsProblem(err, tt.code) {
				t.Errorf("%s: %v", name, err)
			}
			s.mu.Unlock()
		}
	})
}

// TestClock mints another id where one was refused for its time, by the server's clock, but not
// where it may have been stored.
func TestClock(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		theirs := time.Now().Add(-time.Hour)
		ahead := fails(wire.Problem{Status: 422, Code: "id_in_future", Time: &theirs})
		one := &script{answers: []func(http.ResponseWriter, *http.Request){ahead, posts}}
		n.serve(t, "one", one)
		m, err := n.client(t, "one").Send(t.Context(), modelRooms[0], "hello")
		if off := m.ID.Timestamp().Sub(theirs); err != nil || one.ids[0] == one.ids[1] || off < 0 || off > time.Second {
			t.Errorf("ids %v, %s off, %v", one.ids, off, err)
		}
		two := &script{answers: []func(http.ResponseWriter, *http.Request){dies, ahead, ahead, posts}}
		n.serve(t, "two", two)
		if _, err := n.client(t, "two").Send(t.Context(), modelRooms[0], "hello"); err != nil || len(slices.Compact(two.ids)) != 1 {
			t.Errorf("ids %v, %v", two.ids, err)
		}
		behind := n.client(t, "one") // its clock, that is
		late, err := events.NewClock(func() time.Time { return time.Now().Add(time.Hour) }, events.NewMarks(nil)).Mint("bob")
		if err != nil {
			t.Fatal(err)
		}
		behind.see(late)
		if id, err := behind.Mint(t.Context()); err != nil || id.Compare(late) <= 0 {
			t.Errorf("minted %s after %s: %v", id, late, err)
		}
	})
}

// TestMark asks for the user's mark once, of any region that answers, and again where it is refused.
func TestMark(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		secret, asked := "old", 0
		answer := func(w http.ResponseWriter, _ *http.Request) {
			asked++
			reply(w, wire.Me{User: "ada", Mark: events.NewMarks([]byte(secret))("ada").String()})
		}
		first := []http.HandlerFunc{fails(wire.Problem{Status: 503, Code: "region_failing", Retryable: true}), dies}
		n.marks = func(w http.ResponseWriter, r *http.Request) {
			if len(first) > 0 {
				h := first[0]
				first = first[1:]
				h(w, r)
				return
			}
			answer(w, r)
		}
		api := &script{answers: []func(http.ResponseWriter, *http.Request){
			posts, posts, fails(wire.Problem{Status: 403, Code: "id_not_yours"}), posts,
		}}
		n.serve(t, "one", api)
		n.serve(t, "two", api)
		n.serve(t, "three", api)
		n.setDown("one", true)
		c := n.client(t, "one", "two", "three")
		for i, want := range []string{"old", "old", "new"} {
			if secret = want; i == 1 {
				secret = "new" // which the client cannot know
			}
			m, err := c.Send(t.Context(), modelRooms[0], "hello")
			if err != nil || !events.NewMarks([]byte(want)).Owns("ada", m.ID) {
				t.Errorf("message %d: %s, %v", i, m.ID, err)
			}
		}
		if asked != 2 {
			t.Errorf("the mark was asked for %d times", asked)
		}
		n.marks = func(w http.ResponseWriter, _ *http.Request) { reply(w, wire.Me{User: "bob", Mark: "00112233445566"}) }
		if _, err := n.client(t, "two").Mint(t.Context()); err == nil {
			t.Error("the token of another user is taken")
		}
	})
}

// TestFarAhead goes on where a region's clock was ahead for a moment: what was seen of that time does not
// count, once a server has said what time it is.
func TestFarAhead(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		now := time.Now()
		one := &script{answers: []func(http.ResponseWriter, *http.Request){
			fails(wire.Problem{Status: 422, Code: "id_in_future", Time: &now}), posts,
		}}
		n.serve(t, "one", one)
		c := n.client(t, "one")
		ahead := events.NewClock(func() time.Time { return now.Add(time.Hour) }, events.NewMarks(nil)).MintAfter("bob")
		c.see(ahead)
		for range 2 {
			m, err := c.Send(t.Context(), modelRooms[0], "hello")
			if err != nil || time.Until(m.ID.Timestamp()) > time.Second || one.bodies[len(one.bodies)-1]["after"] != nil {
				t.Errorf("%s, %v, of %v", m.ID, err, one.bodies)
			}
		}
		if id, err := c.Mint(t.Context(), ahead); err != nil || id.Compare(ahead) <= 0 {
			t.Errorf("what changes a message of that time is %s, %v", id, err)
		}
	})
}

// An erased message differs from an empty one.
func TestErased(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		n.serve(t, "one", &script{answers: []func(http.ResponseWriter, *http.Request){func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"id":"` + path.Base(r.URL.Path) + `","room":"r","author":"bob","text":"","erased":true}`))
		}}})
		c := n.client(t, "one")
		id, err := c.Mint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Message(t.Context(), modelRooms[0], id)
		if err != nil || m.ID != id || !m.Erased {
			t.Errorf("the message is %+v, %v", m, err)
		}
	})
}
