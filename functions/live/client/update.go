package client

import (
	"context"

	"parley/events"
)

// Update is something the application is told by [Client.Run]: an [Event], a [Reset], a [Status] or
// a [Typing].
type Update interface{ update() }

// Handler takes updates, one after the other. While it runs nothing more is taken from the server;
// one that is slow is caught up with later and misses nothing. What it loads it should load with
// its ctx: if that is answered by another region than the one that tells, which may not know as
// much, a [Reset] follows. An error ends [Client.Run].
type Handler func(ctx context.Context, u Update) error

// Event is something that happened in one of the user's rooms, or that concerns her alone: of every
// kind, her own commands too. From one [Reset] to the next each event is told once and none is left
// out; those of a room come in the order in which they arrived in the region that tells.
//
// A room's events are told from the user's joining on: what was before is to be loaded when it
// is told that she has joined. What is loaded may show an event that is told only then.
type Event struct {
	events.Event
	Room string // "" if it concerns the user alone

	// Replaced says that the event was told already, with other content: its author sent two
	// commands under one id, in two regions, and this one is left.
	Replaced bool
}

// Reset says that what happened cannot be told completely: forget what you have, and load rooms and
// messages with [Client.Rooms] and [Client.Messages] before the handler returns. What follows goes
// on from there. It is the first update of a client without a cursor.
type Reset struct{}

// State is how a client stands with its server.
type State string

// The states.
const (
	CatchingUp State = "catching up" // there may be more than was told
	Live       State = "live"        // all that has arrived in the region is told at once
	Offline    State = "offline"     // no endpoint answers; it goes on trying
)

// Means is how a client hears.
type Means string

// The means.
const (
	OverSocket Means = "socket"
	OverPoll   Means = "poll"
)

// Status says how the client stands, whenever that changes.
type Status struct {
	State  State
	Region string // that tells; "" if none does
	Over   Means  // "" unless live
	Err    error  // why it is not live, if something went wrong
}

// Typing says that somebody is typing in a room. It is told as it happens or never.
type Typing struct{ Room, User string }

func (Event) update()  {}
func (Reset) update()  {}
func (Status) update() {}
func (Typing) update() {}
