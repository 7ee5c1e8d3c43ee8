package main

import (
	"parley/events"
	"parley/events/keys"
	"parley/functions/live"
	"parley/functions/stream"
	"parley/projections"
)

// plants are all bugs.
var plants = []plant{
	{
		name: "log-forgets", about: "the log acknowledges messages that it does not store",
		log: func(_ string, next events.Log) events.Log { return forgetfulLog{next} },
	},
	{
		name: "log-without-digests", about: "the log keeps one event of each id, whatever its content",
		log: func(_ string, next events.Log) events.Log { return bareLog{next} },
	},
	{
		name: "views-last-writer-wins", about: "a save of a view ignores that another process changed it",
		views: func(_ string, next projections.Views) projections.Views { return blindViews{next} },
	},
	{
		name: "views-forget", about: "the views acknowledge changes that they do not save",
		views: func(_ string, next projections.Views) projections.Views { return forgetfulViews{next} },
	},
	{
		name: "erasure-lost", about: "the store of keys acknowledges an erasure and keeps the key",
		keys: func(_ string, next keys.Store) keys.Store { return keptKeys{next} },
	},
	{
		name: "bus-forgets", about: "an entry for the bus is acknowledged and dropped",
		bus: func(next stream.Bus) stream.Bus { return forgetfulBus{next} },
	},
	{
		name: "unsubscribe-lost", about: "a connection goes on listening to a room after its user was removed",
		connections: func(next live.Connections) live.Connections { return deafConnections{next} },
	},
	{
		name: "checkpoint-ahead", about: "the trigger saves its checkpoint although the batch failed",
		handle: hasty,
	},
	{
		name: "record-skipped", about: "the trigger skips the record at which a batch failed",
		handle: skipping,
	},

	{
		name: "feed-without-deduplication", about: "an event that the change stream delivers again gets a second position",
		file: "projections/feed.go",
		find: "		if a.head.mayHold(it) {\n", replace: "		if false {\n",
	},
	{
		name: "feed-trusts-numbers", about: "a record with a number that the feed has passed is taken for handled, whatever its id",
		file:    "projections/feed.go",
		find:    "	if len(a.pending) == 0 {\n		return nil, nil\n	}\n	began :=",
		replace: "	a.pending = slices.DeleteFunc(a.pending, func(it *item) bool {\n		return it.entry.Stream == \"\" && it.arrival.Number.Compare(a.head.Number) <= 0 && len(a.head.Entries) > 0\n	})\n	if len(a.pending) == 0 {\n		return nil, nil\n	}\n	began :=",
	},
	{
		name: "first-arrival-wins", about: "of two settings the one that arrives first wins, not the one with the greater id",
		file: "projections/projection.go",
		find: "	if ref.Compare(l.Ref) > 0 {\n", replace: "	if l.Ref == (events.Ref{}) {\n",
	},
	{
		name: "last-marker-wins", about: "of two read markers the one that arrives last wins, not the greatest",
		file: "projections/inbox.go",
		find: "(len(kept) == 0 || mark.exceeds(kept[len(kept)-1]))", replace: "len(kept) == 0",
	},
	{
		name: "deletion-arrives-too-early", about: "a deletion that arrives before its message is forgotten",
		file: "projections/timeline.go",
		find: "		} else {\n			m.Takebacks = ", replace: "		} else if m.Post != nil {\n			m.Takebacks = ",
	},
	{
		name: "deleted-text-delivered", about: "the text of a deleted message is published and delivered",
		file: "projections/engine.go",
		find: "			a.Deleted = view.hides(a.Event)\n", replace: "			a.Deleted = view.hides(a.Event) && false\n",
	},
	{
		name: "published-before-projected", about: "a batch is published before it is in the views",
		file:    "functions/stream/stream.go",
		find:    "	batch, err = h.project(ctx, batch)\n	if err != nil {\n",
		replace: "	if _, err := h.publish(ctx, batch); err != nil {\n		return 0, fmt.Errorf(\"publish: %w\", err)\n	}\n	batch, err = h.project(ctx, batch)\n	if err != nil {\n",
	},
	{
		name: "late-notice-missing", about: "no late notice is appended for what a region handles late",
		file: "functions/stream/stream.go",
		find: "	for _, of := range late {\n", replace: "	for _, of := range late[:0] {\n",
	},
	{
		name: "keys-survive-erasure", about: "a region acknowledges an erasure and does not destroy the keys",
		file: "functions/stream/stream.go",
		find: "			if err := h.Keys.Erase(ctx, a.Event.Actor); err != nil {\n				return err\n			}\n", replace: "",
	},
	{
		name: "key-destroyed-too-early", about: "a user that leaves a room loses their key",
		file:    "functions/stream/stream.go",
		find:    "		if _, is := a.Event.Payload.(events.UserErased); is {\n			if err := h.Keys.Erase(",
		replace: "		_, left := a.Event.Payload.(events.MemberLeft)\n		if _, is := a.Event.Payload.(events.UserErased); is || left {\n			if err := h.Keys.Erase(",
	},
	{
		name: "cache-trusted", about: "a cached membership is used although the stored one has changed",
		file: "projections/member.go",
		find: "ok && bytes.Equal(cached.body, view.Body) {", replace: "ok && (bytes.Equal(cached.body, view.Body) || true) {",
	},
	{
		name: "cursor-too-far", about: "a cursor skips the event behind the last one that was delivered",
		file: "projections/sync.go",
		find: "		s.place = Place{Position: e.Position, At: e.at}\n", replace: "		s.place = Place{Position: e.Position + 1, At: e.at}\n",
	},
	{
		name: "cursor-not-rewound", about: "a cursor of another region continues from its time, without a rewind",
		file: "projections/sync.go",
		find: "At: at.Add(Window - Rewind), Low: from.Low", replace: "At: from.At.Add(Window), Low: from.Low",
	},
	{
		name: "sync-without-end", about: "a page of a sync that events with a missing key hold up says that there is more",
		file: "projections/sync.go",
		find: "		if s.cut && len(s.entries) < p.room() {", replace: "		if false {",
	},
	{
		name: "unreadable-in-rebuilt-feed", about: "a rebuild puts events into feeds that this release cannot read",
		file: "projections/refold.go",
		find: "unreadable := chunk[0].Event.Payload.(events.Unreadable); !unreadable {", replace: "unreadable := chunk[0].Event.Payload.(events.Unreadable); !unreadable || true {",
	},
	{
		name: "joined-room-missing", about: "a socket stays open that could not be subscribed to a room which its user joined",
		file: "functions/live/push.go",
		find: "		p.warn(\"cannot subscribe a connection to a new room\", err)\n		p.closeUnsure(conn.ID, err)\n", replace: "		p.warn(\"cannot subscribe a connection to a new room\", err)\n",
	},
	{
		name: "removal-not-listed", about: "a socket is sent the removal of its user from a room, and not what a sync lists with it",
		file: "functions/live/push.go",
		find: "	for _, user := range projections.MembersOf(w.Event) {\n		for _, c := range", replace: "	for _, user := range []string{w.Event.Member()} {\n		for _, c := range",
	},
	{
		name: "own-write-not-read", about: "a read that asks for an event does not contain it",
		file: "projections/overlay.go",
		find: "	if len(es) == 0 {\n", replace: "	if true {\n",
	},
	{
		name: "own-messages-unread", about: "a user's own messages count as unread",
		file: "projections/unread.go",
		find: "if m.Post.Author != c.user && ", replace: "if ",
	},
	{
		name: "unknown-outcome-accepted", about: "an append with an unknown outcome is acknowledged without a look",
		file:    "functions/command/command.go",
		find:    "		if lookErr != nil {\n			return result{}, unknownOutcome(e.ID)\n		}\n		stored, repeat = got, false\n",
		replace: "		if lookErr != nil {\n			got = sealed\n		}\n		stored, repeat = got, false\n",
	},
	{
		name: "rebuild-not-written", about: "events that arrive during a rebuild are not folded into the new generation",
		file: "projections/generation.go",
		find: "[]int{one.Live, one.Next, one.Previous} {", replace: "[]int{one.Live, one.Previous} {",
	},
	{
		name: "conflict-drops-work", about: "a view on which another process was first is not folded again",
		file: "projections/engine.go",
		find: "			pending = p.of(lost)\n", replace: "			return nil\n",
	},
	{
		name: "parked-nowhere", about: "an event that cannot be handled is skipped and not parked",
		file:    "functions/stream/stream.go",
		find:    "	if err := projections.Park(ctx, h.Views, key, parked); err != nil {\n		return err\n	}\n",
		replace: "	_ = key\n",
	},
	{
		name: "ban-ignored", about: "a user who is banned stays a member",
		file:    "projections/member.go",
		find:    "	case events.MemberBanned:\n		m.In.set(e.Ref(), false)\n		m.Banned.set(e.Ref(), true)\n",
		replace: "	case events.MemberBanned:\n		m.Banned.set(e.Ref(), false)\n",
	},
}
