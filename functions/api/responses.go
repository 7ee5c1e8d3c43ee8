package api

import (
	"cmp"
	"context"

	"github.com/danielgtaylor/huma/v2"

	"parley/events"
	"parley/events/keys"
	"parley/functions/wire"
	"parley/projections"
)

// Response is an answer with a status that depends on whether anything was added.
type Response[T any] struct {
	Status int
	Body   T
}

// OK answers 200.
func OK[T any](body T) *Response[T] { return &Response[T]{200, body} }

// Created answers 201, or 200 to a repeat, which added nothing.
func Created[T any](repeat bool, body T) *Response[T] {
	if repeat {
		return OK(body)
	}
	return &Response[T]{201, body}
}

// MessagesOf gives messages as clients get them: it is where their content is decrypted.
func MessagesOf(ctx context.Context, ring *keys.Ring, list ...projections.Message) ([]wire.Message, error) {
	items := make([]keys.Item, len(list))
	for i, m := range list {
		items[i] = keys.Item{Owner: m.Author, ID: cmp.Or(m.Edited, m.ID), Field: "text", Content: m.Text}
	}
	texts, err := ring.Show(ctx, items...)
	if err != nil {
		return nil, err
	}
	out := make([]wire.Message, len(list))
	for i, m := range list {
		text := texts[i]
		out[i] = wire.Message{
			ID: m.ID, Room: m.Room, Author: m.Author, Text: text.Text(), SentAt: m.ID.Timestamp().UTC(),
			Erased: text.Erased(), Unreadable: text.Unopened(),
			Deleted: m.Deleted, Replies: m.Replies, Reactions: m.Reactions, Pinned: m.Pinned, Region: m.Region,
		}
		if m.ReplyTo != nil {
			out[i].ReplyTo = *m.ReplyTo
		}
		if m.Thread != nil {
			out[i].Thread = *m.Thread
		}
		if m.Edited != (events.ID{}) {
			at := m.Edited.Timestamp().UTC()
			out[i].EditedAt = &at
		}
	}
	return out, nil
}

// UserOf gives a profile as clients get it, decrypted.
func UserOf(ctx context.Context, ring *keys.Ring, u projections.User) (wire.User, error) {
	got, err := ring.Show(ctx, keys.Item{Owner: u.ID, ID: u.Set, Field: "name", Content: u.Name}, keys.Item{Owner: u.ID, ID: u.Set, Field: "about", Content: u.About})
	if err != nil {
		return wire.User{}, err
	}
	name, about := got[0], got[1]
	return wire.User{
		ID: u.ID, Name: name.Text(), About: about.Text(),
		Erased: name.Erased() || u.Erased != (events.ID{}), Unreadable: name.Unopened() || about.Unopened(),
	}, nil
}

// EventOf gives an event as clients get it, once [projections.ShowEvents] has decrypted it.
func EventOf(e events.Event) wire.Event {
	isDeleted, isUnopened := e.Withheld()
	return wire.Event{
		ID: e.ID, Stream: e.Stream, Type: e.Type, Version: e.Version,
		Actor: e.Actor, Region: e.Region, Data: wire.EventData(e.Data), Deleted: isDeleted, Unreadable: isUnopened,
	}
}

// RoomOf gives a room as one of its readers gets it.
func RoomOf(r projections.Room, reader projections.Member) wire.Room {
	return wire.Room{
		ID: r.ID, Name: r.Name, Topic: r.Topic, Private: r.Private, Archived: r.Archived, Direct: r.Direct,
		CreatedBy: r.By, CreatedAt: r.Created.Timestamp().UTC(), Role: reader.Role,
	}
}

// MemberOf gives a member as clients get it.
func MemberOf(m projections.Member) wire.Member {
	if m.Invited != (events.ID{}) {
		return wire.Member{User: m.User, Since: m.Invited.Timestamp().UTC(), Invited: true}
	}
	return wire.Member{User: m.User, Role: m.Role, Since: m.Since.Timestamp().UTC(), Banned: m.Banned}
}

// eventData is the schema of [wire.EventData], which the framework would take for any JSON.
type eventData struct{}

// Schema implements [huma.SchemaProvider].
func (eventData) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: "By type and version. Of a user who was erased, text, name and about are null; so is the text of a message that was deleted."}
}
