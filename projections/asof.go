package projections

import (
	"context"

	"parley/events"
)

// ListMessagesAsOf reads what [ListMessages] would have answered when the event at was the
// latest of all. It answers from the log: r's messages are found there, and what was done to
// them up to at is folded in. Its cost grows with the number of events between the oldest of
// them and at.
//
// A deletion is for good: a message that has been deleted since shows as deleted.
func ListMessagesAsOf(ctx context.Context, log events.Log, views Views, room string, at events.ID, r events.Range) ([]Message, error) {
	end := events.FollowingID(at)
	if r.Before == (events.ID{}) || r.Before.Compare(end) > 0 {
		r.Before = end
	}
	docs, ids, err := postedIn(ctx, log, room, r)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	oldest := ids[0]
	if r.Reverse {
		oldest = ids[len(ids)-1]
	}
	for e, err := range log.Read(ctx, events.RoomStream(room), events.Range{After: events.PrecedingID(oldest), Before: end}) {
		if err != nil {
			return nil, err
		}
		for _, key := range Timeline.Keys(e) {
			if doc := docs[key]; doc != nil {
				doc.fold(key, e)
			}
		}
	}
	return asOf(ctx, views, room, docs, ids)
}

// postedIn finds the messages posted within r, in r's order.
func postedIn(ctx context.Context, log events.Log, room string, r events.Range) (map[Key]*message, []events.ID, error) {
	docs := map[Key]*message{}
	var ids []events.ID
	all := r
	all.Limit = 0
	for e, err := range log.Read(ctx, events.RoomStream(room), all) {
		if err != nil {
			return nil, nil, err
		}
		if _, ok := e.Payload.(events.MessagePosted); !ok {
			continue
		}
		docs[messageKey(room, e.ID)] = &message{}
		if ids = append(ids, e.ID); len(ids) == r.Limit {
			break
		}
	}
	return docs, ids, nil
}

// asOf reads the messages, the ones that are deleted by now as deleted.
func asOf(ctx context.Context, views Views, room string, docs map[Key]*message, ids []events.ID) ([]Message, error) {
	now, err := LoadMessages(ctx, views, room, ids...)
	if err != nil {
		return nil, err
	}
	for _, m := range now {
		if m.Deleted {
			doc := docs[messageKey(room, m.ID)]
			doc.Deleted = least(doc.Deleted, m.ID)
			doc.settle()
		}
	}
	messages := make([]Message, len(ids))
	for i, id := range ids {
		messages[i] = docs[messageKey(room, id)].read(room, id)
	}
	return messages, nil
}
