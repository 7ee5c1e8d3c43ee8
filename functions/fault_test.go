package functions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// The log fails in both ways, under every command.
func TestLogFails(t *testing.T) {
	t.Parallel()
	eachOrder(t, func(t *testing.T, s *scene, o order) {
		ada := s.as("ada")
		id := ada.mint()
		before := s.store.Head()

		s.log.OnAppend = logtest.Script(logtest.NotStored)
		o.give(s, ada, id).refused(503, "throttled")
		if s.store.Head() != before {
			t.Fatal("something was stored")
		}
		first := o.give(s, ada, id).want(o.owner)
		if s.store.Head() != before+1 {
			t.Fatalf("%d events were stored", s.store.Head()-before)
		}
		wantRepeat(t, first, o.give(s, ada, id))
	})
}

func TestLogFailsButStored(t *testing.T) {
	t.Parallel()
	eachOrder(t, func(t *testing.T, s *scene, o order) {
		ada := s.as("ada")
		before := s.store.Head()
		s.log.OnAppend = logtest.Script(logtest.Stored)
		id := ada.mint()
		first := o.give(s, ada, id).want(o.owner) // it looked, and found it
		wantRepeat(t, first, o.give(s, ada, id))
		if s.store.Head() != before+1 {
			t.Errorf("%d events were stored", s.store.Head()-before)
		}
	})
}

// If the outcome cannot be determined, the answer has the id, and a retry with it resolves it.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	eachOrder(t, func(t *testing.T, s *scene, o order) {
		ada := s.as("ada")
		before := s.store.Head()
		appended := false
		s.log.OnAppend = func(events.Event) logtest.Fault { appended = true; return logtest.Stored }
		s.log.OnRead = func(events.Stream) error {
			if appended {
				return events.ErrThrottled
			}
			return nil
		}
		id := ada.mint()
		a := o.give(s, ada, id).refused(503, "unknown_outcome")
		if a.text("id") != id.String() {
			t.Errorf("the id is %s", a.body)
		}
		s.log.OnAppend, s.log.OnRead = nil, nil
		o.give(s, ada, id).want(200)
		s.Sync()
		o.give(s, ada, id).want(200)
		if s.store.Head() != before+1 {
			t.Errorf("%d events were stored", s.store.Head()-before)
		}
	})
}

// An id that the server minted is answered too: the command can be retried with it.
func TestUnknownOutcomeOfMintedID(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	for _, path := range []string{s.room + "/messages", "/v1/rooms"} {
		body := map[bool]string{true: `{"name":"x"}`, false: `{"text":"x"}`}[path == "/v1/rooms"]
		appended := false
		s.log.OnAppend = func(events.Event) logtest.Fault { appended = true; return logtest.Stored }
		s.log.OnRead = func(events.Stream) error {
			if appended {
				return context.DeadlineExceeded
			}
			return nil
		}
		id, err := events.ParseID("id", ada.post(path, body).refused(503, "unknown_outcome").text("id"))
		must(t, err)
		s.log.OnAppend, s.log.OnRead = nil, nil
		before := s.store.Head()
		if got := ada.key(id).post(path, body).want(200).id(); got != id || s.store.Head() != before {
			t.Errorf("the retry made %s of %s", got, id)
		}
	}
}

// A failure to look is no reason to refuse a repeat for good.
func TestRepeatCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	id := ada.mint()
	s.as("ada").add(s.room, "zoe", "owner")
	ada.put(s.room+"/messages/"+id.String(), `{"text":"a"}`).want(201)
	s.as("zoe").delete(s.room + "/members/ada").want(200)
	s.log.OnRead = func(events.Stream) error { return events.ErrThrottled }
	ada.put(s.room+"/messages/"+id.String(), `{"text":"a"}`).refused(503, "throttled")
	s.log.OnRead = nil
	ada.put(s.room+"/messages/"+id.String(), `{"text":"a"}`).want(200)
}

// A region whose log has stopped says that another one may take the command.
func TestLogStopped(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	working := s.log.Log
	s.log.Log = stopped{working}
	s.as("ada").post(s.room+"/messages", `{"text":"a"}`).refused(503, "unavailable")
	s.log.Log = working
	s.as("ada").post(s.room+"/messages", `{"text":"a"}`).want(201)
}

// Views that are away are said to be, and to be worth another try.
func TestViewsAway(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	a := s.as("ada")
	views := s.views.Views
	s.views.Views = away{}
	a.get(s.room+"/messages").refused(503, "views_unavailable")
	a.post(s.room+"/messages", `{"text":"a"}`).refused(503, "views_unavailable")
	s.views.Views = views
	a.post(s.room+"/messages", `{"text":"a"}`).want(201)
}

// away is a store of views that cannot be reached.
type away struct{ projections.Views }

func (away) Get(context.Context, ...projections.Key) ([]projections.View, error) {
	return nil, fmt.Errorf("get views: %w", projections.ErrUnavailable)
}

// stopped is a log that takes no appends.
type stopped struct{ events.Log }

func (stopped) Append(context.Context, events.Event) (events.Event, bool, error) {
	return events.Event{}, false, events.ErrUnavailable
}

// Views that cannot be read refuse a command; nothing is stored, and the retry succeeds.
func TestViewsFail(t *testing.T) {
	t.Parallel()
	eachOrder(t, func(t *testing.T, s *scene, o order) {
		if o.id == "setProfile" || o.createsRoom() {
			return // asks no view
		}
		ada := s.as("ada")
		id := ada.mint()
		s.views.OnGet = func([]projections.Key) error { return viewtest.ErrFault }
		o.give(s, ada, id).refused(500, "internal")
		s.views.OnGet = nil
		o.give(s, ada, id).want(o.owner)
	})
}

// Views that fail after the append are no failure of the command: the stream folds the event.
func TestFoldAtOnceFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]viewtest.Fault{"not_stored": viewtest.NotStored, "half": viewtest.HalfStored, "stored": viewtest.Stored} {
		t.Run(name, func(t *testing.T) {
			eachOrder(t, func(t *testing.T, s *scene, o order) {
				ada, twin := s.as("ada"), newTwin(t, s)
				id := ada.mint()
				o.give(twin, twin.as("ada"), id).want(o.owner)
				twin.Sync()

				s.views.OnSave = func([]projections.View) viewtest.Fault { return fault }
				s.log.OnAppend = func(events.Event) logtest.Fault {
					s.views.OnGet = func([]projections.Key) error { return viewtest.ErrFault } // from now on
					return logtest.Pass
				}
				if name != "not_stored" {
					s.log.OnAppend = nil
				}
				first := o.give(s, ada, id).want(o.owner)
				s.views.OnSave, s.views.OnGet, s.log.OnAppend = nil, nil, nil
				s.Sync()
				wantRepeat(t, first, o.give(s, ada, id))
				for _, path := range []string{s.room, s.room + "/messages", s.room + "/members", "/v1/rooms"} {
					if got, want := shown(ada.get(path)), shown(twin.as("ada").get(path)); got != want {
						t.Errorf("%s is not healed:\n got %v\nwant %v", path, got, want)
					}
				}
			})
		})
	}
}

// newTwin makes a region that holds all events of a scene.
func newTwin(t *testing.T, s *scene) *scene {
	t.Helper()
	twin := &scene{s.world.region(t, s.name), s.room, s.message, s.other}
	replicate(s.region, twin.region)
	return twin
}

// A query that cannot read says so, and never answers with less than there is.
func TestQueriesFail(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	m := s.message.String()
	for _, path := range []string{
		s.room, s.room + "/members", s.room + "/members/bob", s.room + "/messages", s.room + "/messages?as_of=" + m,
		s.about(""), s.about("/replies"), "/v1/rooms", s.room + "/messages?includes=" + m,
	} {
		ada.get(path).want(200)
		s.views.OnGet = func([]projections.Key) error { return viewtest.ErrFault }
		s.views.OnQuery = func(string, projections.Range) error { return viewtest.ErrFault }
		ada.get(path).refused(500, "internal")
		s.views.OnGet, s.views.OnQuery = nil, nil
	}
	s.log.OnRead = func(events.Stream) error { return events.ErrThrottled }
	for _, path := range []string{s.room + "/messages?as_of=" + m, s.room + "/messages?includes=" + m, "/v1/rooms?includes=" + m} {
		ada.get(path).refused(503, "throttled")
	}
	ada.get(s.room + "/messages").want(200)
	ada.delete(s.about("")).refused(503, "throttled") // whose it is decides what the event is
}

// A client that goes away, or a request that takes too long, leaves nothing half done.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	s.log.OnAppend = func(events.Event) logtest.Fault { return logtest.NotStored }
	for err, code := range map[error]string{context.Canceled: "canceled", context.DeadlineExceeded: "timeout"} {
		s.views.OnGet = func([]projections.Key) error { return err }
		if a := ada.post(s.room+"/messages", `{"text":"a"}`).refused(503, code); a.value("retryable") != true {
			t.Errorf("%s", a.body)
		}
	}
}

// A panic is answered, without details.
func TestPanic(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.views.OnGet = func([]projections.Key) error { panic(secret) }
	a := s.as("ada").get(s.room).refused(500, "internal")
	if a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the headers are %v", a.header)
	}
	s.views.OnGet = func([]projections.Key) error { panic(http.ErrAbortHandler) }
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { // net/http compares it so
			t.Errorf("panicked with %v", p)
		}
	}()
	s.as("ada").get(s.room)
	t.Error("the panic that aborts a request did not reach net/http")
}

var errRefused = errors.New("refused on purpose")

func failSaves([]projections.View) viewtest.Fault { return viewtest.NotStored }
