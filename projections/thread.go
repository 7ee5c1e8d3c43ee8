package projections

import (
	"context"

	"parley/events"
)

// Threads is the projection that finds a thread's messages: one small view per reply. What the
// reply says stands in the timeline, and how many there are in the view of the thread's root.
var Threads Projection = &projection[reply, *reply]{
	name: "thread",
	keys: func(e events.Event) []Key {
		if p, ok := e.Payload.(events.MessagePosted); ok && p.Thread != nil && follows(e.ID, *p.Thread) {
			return []Key{{threadPartition(e.Stream.Name(), *p.Thread), e.ID.String()}}
		}
		return nil
	},
	since:  sortID,
	stream: roomOf,
}

func threadPartition(room string, root events.ID) string {
	return "thread/" + room + "/" + root.String()
}

// reply is the view of a reply: that it is one.
type reply struct {
	Posted bool `json:"posted"`
}

func (r *reply) fold(Key, events.Event) { r.Posted = true }

// ListReplies reads at most r.Limit messages of the thread below root, in r's order. Replies
// that are not there yet, or no longer replies, are passed over.
func ListReplies(ctx context.Context, views Views, room string, root events.ID, r events.Range) ([]Message, error) {
	var replies []Message
	for len(replies) < r.Limit {
		want := r.Limit - len(replies)
		got, err := views.Query(ctx, threadPartition(room, root), idRange(r, want))
		if err != nil {
			return nil, err
		}
		ids := make([]events.ID, len(got))
		for i, view := range got {
			ids[i] = sortID(view.Key)
		}
		messages, err := LoadMessages(ctx, views, room, ids...)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if m.Thread != nil && *m.Thread == root {
				replies = append(replies, m)
			}
		}
		if len(got) < want {
			break
		}
		r = behind(r, ids[len(ids)-1])
	}
	return replies, nil
}
