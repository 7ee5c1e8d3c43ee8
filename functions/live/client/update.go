package client

import (
	"context"

	"parley/events"
)

// Update is what [Client.Run] delivers to the application: an [Event], a [Reset], a [Status] or a
// [Typing].
type Update interface{ update() }

// Handler handles updates, one after the other. While it runs nothing more is read from the server;
// a slow handler catches up later and misses nothing. It should load data with its ctx: if another
// region answers than the one that delivers, which may be behind, a [Reset] follows. An error ends
// [Client.Run].
type Handler func(ctx context.Context, u Update) error

// Event is something that happened in one of the user's rooms, or concerns the user alone: of every
// type, the user's own commands included. From one [Reset] to the next each event is delivered once
// and none is left out; those of a room come in the order in which they arrived in the region that
// delivers them.
//
// Two events may have one id, where its author sent two commands under it to two regions: both are
// delivered. Of two messages one shows, the same in every region: load it with [Client.Message].
//
// A room's events are delivered from the time the user joined. Load what was before when that event
// comes. What is loaded may already show an event that is delivered later.
type Event struct {
	events.Event
	Room string // "" if it concerns the user alone
}

// Reset says that no events follow on what you have: drop it, and load rooms and
// messages with [Client.Rooms] and [Client.Messages] before the handler returns. The updates that
// follow continue from there. It is the first update of a client without a cursor.
type Reset struct{}

// State is how current a client is.
type State string

// The states.
const (
	CatchingUp State = "catching up" // there may be events that were not delivered yet
	Live       State = "live"        // events are delivered as they arrive in the region
	Offline    State = "offline"     // no endpoint answers; the client keeps trying
)

// Means is how a client gets events.
type Means string

// The means.
const (
	OverSocket Means = "socket"
	OverPoll   Means = "poll"
)

// Status is the state of the client, whenever it changes.
type Status struct {
	State  State
	Region string // that delivers events; "" if none does
	Over   Means  // "" unless live
	Err    error  // why it is not live, if something went wrong
}

// Typing says that somebody is typing in a room. It is delivered at once or not at all.
type Typing struct{ Room, User string }

func (Event) update()  {}
func (Reset) update()  {}
func (Status) update() {}
func (Typing) update() {}
