package events

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// The events that Parley appends by itself. Those made by [LateNotice] and [Destroyed] are pure
// functions of their cause: a region that appends one twice has appended one event.

// RegionBeat is a region's heartbeat, appended about once a minute to each of its streams of heartbeats,
// see [BeatStream]. The last ones received from another region show how far replication and the change
// stream have come with what that region accepted.
type RegionBeat struct{}

// Validate implements [Payload].
func (RegionBeat) Validate() error { return nil }

// MaxLate is how many events one late notice may name.
const MaxLate = 100

// EventLate is a late notice: it records that Event and More, of the same stream, were handled in this
// region (the actor) long after they were accepted. Clients that left the region before may have missed
// them; this notice delivers them wherever they are now.
type EventLate struct {
	Event Ref   `json:"event"`
	More  []Ref `json:"more,omitempty"`
}

// Events returns all that are named.
func (p EventLate) Events() []Ref { return append([]Ref{p.Event}, p.More...) }

// Validate implements [Payload].
func (p EventLate) Validate() error {
	if len(p.More) >= MaxLate {
		return Invalid("more", fmt.Sprintf("must have at most %d events", MaxLate-1))
	}
	for i, ref := range p.Events() {
		if ref.ID == (ID{}) {
			return Invalid([]string{"event", "more"}[min(i, 1)], "must not be zero")
		}
	}
	return nil
}

// LateNotice returns the late notice by which a region names events of a stream that it handled late, at a
// time. Place says where it has them; at least one must be late. It is always the same event for the same
// arguments.
func LateNotice(region string, stream Stream, at time.Time, place string, late []Ref) (Event, error) {
	var cause ID
	if err := cause.SetTime(uint64(at.UnixMilli())); err != nil {
		return Event{}, fmt.Errorf("make a late notice: %w", err)
	}
	id := derivedID("late "+string(stream)+" "+place, cause, region)
	return New(id, stream, region, region, EventLate{late[0], late[1:]})
}

// OpsActed is what an operator did in a region: the event's actor is the operator, its id carries
// the time.
type OpsActed struct {
	What   string `json:"what"`             // "drain", "job.start"
	Target string `json:"target,omitempty"` // a job, a key, a projection
	Result string `json:"result,omitempty"` // in words, without user text
}

// The limits of an operator's act.
const (
	MaxWhatChars   = 64  // of What: a-z 0-9 . _ -
	MaxResultChars = 500 // of Target and Result, in code points
)

// Validate implements [Payload].
func (p OpsActed) Validate() error {
	if len(p.What) < 1 || len(p.What) > MaxWhatChars || strings.ContainsFunc(p.What, notWhatChar) {
		return Invalid("what", fmt.Sprintf("must have 1 to %d characters of a-z 0-9 . _ -", MaxWhatChars))
	}
	for _, f := range []struct{ field, text string }{{"target", p.Target}, {"result", p.Result}} {
		if !line(f.text, MaxResultChars) {
			return Invalid(f.field, fmt.Sprintf("must have at most %d characters, on one line", MaxResultChars))
		}
	}
	return nil
}

func notWhatChar(r rune) bool { return notRegionChar(r) && r != '.' && r != '_' }

// Destroyed returns the event by which a region records that it has destroyed the data keys of a
// user, because of the erasure of that user. It is always the same event for the same arguments.
func Destroyed(erased Event, region string) (Event, error) {
	// The words are part of the event: other words would be another event of the same id.
	act := OpsActed{What: "keys.destroyed", Target: erased.Actor, Result: "what the user wrote can no longer be decrypted in this region"}
	return New(derivedID("destroyed", erased.ID, region), OpsStream(region), region, region, act)
}

// derivedID is the id of what a region appends because of another event: it has the time of its
// cause and the former mark of the region, which needs no secret, and a digest in place of the random
// bits.
func derivedID(what string, cause ID, region string) ID {
	sum := sha256.Sum256([]byte(what + " " + cause.String()))
	id, mark := cause, FormerMark(region)
	copy(id[markAt:], mark[:])
	copy(id[markAt+len(mark):], sum[:])
	return id
}
