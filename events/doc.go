// Package events is the log: what happened, and nothing else.
//
// An [Event] is an immutable fact. It belongs to one [Stream] (the events of a room, of a
// user, of a region), is named in the past tense, and is identified and ordered by its ULID.
// A [Log] is a set of events that only grows; every region holds the whole of it.
//
// The package fixes what an event looks like (event.go, types.go and one file per subject),
// how it is encoded for good (codec.go), how ids are minted so that an answer never sorts
// before its question (clock.go) and what a store must promise (log.go). The suite in logtest
// holds every store to that promise.
package events
