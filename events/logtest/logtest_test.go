package logtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
)

func TestModel(t *testing.T) {
	logtest.Run(t, logtest.Driver{
		Open:     func(testing.TB, string) events.Log { return logtest.NewModel() },
		Volatile: true,
	})
}

func TestModelStream(t *testing.T) {
	logtest.RunStream(t, logtest.StreamDriver{
		Open:            func(testing.TB, string) events.Log { return logtest.NewModel() },
		Volatile:        true,
		Follow:          func(_ testing.TB, log events.Log) events.Replica { return log.(*logtest.Model) },
		EmitUndecodable: func(_ testing.TB, log events.Log) { log.(*logtest.Model).EmitUndecodable() },
		Trim:            func(_ testing.TB, log events.Log) { log.(*logtest.Model).Trim() },
	})
}

func TestFaultsPass(t *testing.T) {
	logtest.Run(t, logtest.Driver{
		Open:     func(testing.TB, string) events.Log { return &logtest.Faults{Log: logtest.NewModel()} },
		Volatile: true,
	})
}

func newMessage(t *testing.T) events.Event {
	t.Helper()
	id, err := events.NewClock(time.Now, events.NewMarks(nil)).Mint("ada")
	if err != nil {
		t.Fatal(err)
	}
	e, err := events.New(id, events.RoomStream(id.String()), "ada", "here", events.MessagePosted{Text: events.Plain("hello")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestFaultsAppend(t *testing.T) {
	e := newMessage(t)
	log := &logtest.Faults{
		Log:      logtest.NewModel(),
		OnAppend: logtest.Script(logtest.NotStored, logtest.Stored, logtest.NotStored),
	}
	steps := []struct {
		err    error
		stored bool
	}{
		{events.ErrThrottled, false},
		{events.ErrUnknownOutcome, true},
		{events.ErrThrottled, true},
		{nil, true},
	}
	for i, want := range steps {
		_, repeat, err := log.Append(t.Context(), e)
		if !errors.Is(err, want.err) || repeat != (err == nil) {
			t.Errorf("append %d: repeat %v, error %v, want %v", i+1, repeat, err, want.err)
		}
		if _, err := events.Get(t.Context(), log, e.Stream, e.ID); (err == nil) != want.stored {
			t.Errorf("append %d: get says %v, want it stored: %v", i+1, err, want.stored)
		}
	}
}

func TestFaultsRead(t *testing.T) {
	broken := errors.New("broken")
	model := logtest.NewModel()
	first, second := newMessage(t), newMessage(t)
	second.Stream = first.Stream
	for _, e := range []events.Event{first, second} {
		if _, _, err := model.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for failAt := range 4 { // the beginning, the first event, the second, never
		calls := 0
		log := &logtest.Faults{Log: model, OnRead: func(stream events.Stream) error {
			if calls++; calls == failAt+1 {
				return broken
			}
			return nil
		}}
		var last error
		n := 0
		for _, err := range log.Read(context.Background(), first.Stream, events.Range{}) {
			if last = err; err == nil {
				n++
			}
		}
		if want := max(failAt-1, 0); n != want {
			t.Errorf("failing at call %d: %d events, want %d", failAt, n, want)
		}
		if errors.Is(last, broken) != (failAt < 3) {
			t.Errorf("failing at call %d: error is %v", failAt, last)
		}
		calls, n = 0, 0
		for _, err := range log.Scan(context.Background(), events.Part{Of: 1}, events.Key{}) {
			if last = err; err == nil {
				n++
			}
		}
		if want := max(failAt-1, 0); n != want || errors.Is(last, broken) != (failAt < 3) {
			t.Errorf("failing at call %d of a scan: %d events, want %d; error is %v", failAt, n, want, last)
		}
	}
	log := &logtest.Faults{Log: model, OnRead: func(events.Stream) error { return broken }}
	if _, err := events.Get(t.Context(), log, first.Stream, first.ID); !errors.Is(err, broken) {
		t.Errorf("get: %v", err)
	}
}
