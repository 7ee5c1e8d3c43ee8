package events_test

import (
	"testing"
	"time"

	"parley/events"
)

// The event of the benchmarks is the commonest one: a reply of 80 bytes.
func benchEvent(b *testing.B) events.Event {
	b.Helper()
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	cause, err := clock.Mint("ada")
	if err != nil {
		b.Fatal(err)
	}
	id, err := clock.Mint("grace", cause)
	if err != nil {
		b.Fatal(err)
	}
	e, err := events.New(id, events.RoomStream(cause.String()), "grace", "eu-central-1", events.MessagePosted{
		Text:    events.Plain("Okay, Houston, we've had a problem here. – This is Houston. Say again, please."),
		ReplyTo: &cause,
	})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func BenchmarkNew(b *testing.B) {
	e := benchEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := events.New(e.ID, e.Stream, e.Actor, e.Region, e.Payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	e := benchEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		events.Encode(e)
	}
}

func BenchmarkDecode(b *testing.B) {
	s := events.Encode(benchEvent(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := events.Decode(s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	e := benchEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		e.WithDigest()
	}
}

func BenchmarkMint(b *testing.B) {
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	cause, err := clock.Mint("ada")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := clock.Mint("grace", cause); err != nil {
			b.Fatal(err)
		}
	}
}
