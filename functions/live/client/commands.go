package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"parley/events"
	"parley/functions/wire"
)

// NewMessage is a message to be posted.
type NewMessage struct {
	Text    string
	ReplyTo *events.ID // the message it answers
	Thread  *events.ID // the message whose thread it belongs to
	ID      events.ID  // of [Client.Mint]; zero: Post mints one
}

// Send posts a text to a room. See [Client.Post].
func (c *Client) Send(ctx context.Context, room, text string) (wire.Message, error) {
	return c.Post(ctx, room, NewMessage{Text: text})
}

// Post posts a message to a room, and retries it under the same id, in any region that answers,
// until it is accepted or refused for good, which is a [Problem]. If ctx ends before that, the error
// is an [UnsureError], unless the message was certainly not stored. It also comes as an [Event].
func (c *Client) Post(ctx context.Context, room string, m NewMessage) (wire.Message, error) {
	var causes []events.ID
	for _, id := range []*events.ID{m.ReplyTo, m.Thread} {
		if id != nil {
			causes = append(causes, *id)
		}
	}
	var posted wire.Message
	after := c.lastSeen()
	_, err := c.command(ctx, m.ID, causes, func(id events.ID) request {
		body := wire.NewMessage{Text: m.Text}
		if m.ReplyTo != nil {
			body.ReplyTo = m.ReplyTo.String()
		}
		if m.Thread != nil {
			body.Thread = m.Thread.String()
		}
		if after != (events.ID{}) && after.Compare(id) < 0 {
			body.After = after.String()
		}
		return request{method: http.MethodPut, path: messagePath(room, id), body: body}
	}, &posted)
	return posted, err
}

// Edit replaces the text of a message of the user's.
func (c *Client) Edit(ctx context.Context, room string, message events.ID, text string) error {
	return c.onMessage(ctx, http.MethodPatch, room, message, "", wire.MessageEdit{Text: text})
}

// Delete deletes a message for good.
func (c *Client) Delete(ctx context.Context, room string, message events.ID) error {
	return c.onMessage(ctx, http.MethodDelete, room, message, "", nil)
}

// React adds the user's reaction to a message: one visible character or a :name:.
func (c *Client) React(ctx context.Context, room string, message events.ID, emoji string) error {
	return c.onMessage(ctx, http.MethodPut, room, message, "/reactions/"+url.PathEscape(emoji), nil)
}

// Unreact removes the user's reaction.
func (c *Client) Unreact(ctx context.Context, room string, message events.ID, emoji string) error {
	return c.onMessage(ctx, http.MethodDelete, room, message, "/reactions/"+url.PathEscape(emoji), nil)
}

// MarkUnread marks a room as unread from a message on.
func (c *Client) MarkUnread(ctx context.Context, room string, from events.ID) error {
	_, err := c.Command(ctx, http.MethodPut, "/v1/rooms/"+url.PathEscape(room)+"/unread", wire.UnreadMarker{From: from.String()}, nil, from)
	return err
}

// MarkRead marks a room as read up to a message.
func (c *Client) MarkRead(ctx context.Context, room string, upTo events.ID) error {
	_, err := c.Command(ctx, http.MethodPut, "/v1/rooms/"+url.PathEscape(room)+"/read", wire.ReadMarker{UpTo: upTo.String()}, nil, upTo)
	return err
}

// NewRoom is a room to be created.
type NewRoom struct {
	Name    string
	Topic   string
	Private bool      // invisible to all but its members
	ID      events.ID // of [Client.Mint]; zero: CreateRoom mints one
}

// CreateRoom creates a room, with the user as its owner. It retries as [Client.Post] does.
func (c *Client) CreateRoom(ctx context.Context, room NewRoom) (wire.Room, error) {
	var created wire.Room
	_, err := c.command(ctx, room.ID, nil, func(id events.ID) request {
		body := wire.NewRoom{Name: room.Name, Topic: room.Topic, Private: room.Private}
		return request{method: http.MethodPut, path: "/v1/rooms/" + id.String(), body: body}
	}, &created)
	return created, err
}

// Direct returns the direct room with another user, and creates it if need be.
func (c *Client) Direct(ctx context.Context, user string) (wire.Room, error) {
	var room wire.Room
	_, err := c.Command(ctx, http.MethodPut, "/v1/direct/"+url.PathEscape(user), nil, &room)
	return room, err
}

// Join makes the user a member of a public room, or of one that the user is invited to. It succeeds if
// the user is one already.
func (c *Client) Join(ctx context.Context, room string) error {
	return c.Invite(ctx, room, c.options.User)
}

// Invite invites a user to a room, who becomes a member with [Client.Join] and declines with
// [Client.Leave]. The caller must be an admin.
func (c *Client) Invite(ctx context.Context, room, user string) error {
	_, err := c.Command(ctx, http.MethodPut, memberPath(room, user), nil, nil)
	return err
}

// Leave ends the user's membership of a room, or declines an invitation.
func (c *Client) Leave(ctx context.Context, room string) error {
	_, err := c.Command(ctx, http.MethodDelete, memberPath(room, c.options.User), nil, nil)
	return err
}

func memberPath(room, user string) string {
	return "/v1/rooms/" + url.PathEscape(room) + "/members/" + url.PathEscape(user)
}

func messagePath(room string, id events.ID) string {
	return "/v1/rooms/" + url.PathEscape(room) + "/messages/" + id.String()
}

func (c *Client) onMessage(ctx context.Context, method, room string, message events.ID, what string, body any) error {
	_, err := c.Command(ctx, method, messagePath(room, message)+what, body, nil, message)
	return err
}

// Command sends any command of the API whose id goes into Idempotency-Key, as [Client.Post] does,
// and decodes the answer into out unless that is nil. The id sorts after the given causes, such as
// the message it is about. It is returned, to be passed as includes= to a query.
func (c *Client) Command(ctx context.Context, method, path string, body, out any, causes ...events.ID) (events.ID, error) {
	return c.command(ctx, events.ID{}, causes, func(id events.ID) request {
		return request{method: method, path: path, key: id.String(), body: body}
	}, out)
}

// command sends the request that build makes for an id, or for a new id if that is zero.
func (c *Client) command(ctx context.Context, id events.ID, causes []events.ID, build func(events.ID) request, out any) (events.ID, error) {
	if id == (events.ID{}) {
		var err error
		if id, err = c.Mint(ctx, causes...); err != nil {
			return id, err
		}
	}
	d := &delivery{client: c, id: id, causes: causes, build: build, request: build(id), began: time.Now()}
	a, err := c.retry(ctx, &d.request, func(p *Problem) bool { return d.final(ctx, p) })
	if err != nil {
		if d.unsure || !isProblem(err) { // or it was in flight when ctx ended
			err = &UnsureError{d.id, err}
		}
		return d.id, err
	}
	c.see(d.id)
	if out != nil {
		err = json.Unmarshal(a.body, out)
	}
	return d.id, err
}

// delivery is a command and its attempts.
type delivery struct {
	client   *Client
	id       events.ID
	causes   []events.ID
	build    func(events.ID) request
	request  request
	began    time.Time
	unsure   bool // an attempt may have been stored
	reminted bool
}

// final reports whether the problem of an attempt ends the retries. An id that was refused for its
// time, its order or its mark is replaced, unless an earlier attempt may have been stored.
func (d *delivery) final(ctx context.Context, p *Problem) bool {
	d.unsure = d.unsure || p.unsure()
	inTime := p.Code == "id_in_future" || p.Code == "id_in_past"
	switch {
	case inTime || p.Code == "id_order" || p.Code == "id_not_yours":
		return !d.remint(ctx, p, inTime)
	case p.Status == http.StatusNotFound && time.Since(d.began) > notYetCommand:
		return true
	default:
		return !p.Retryable
	}
}

func (d *delivery) remint(ctx context.Context, p *Problem, inTime bool) bool {
	if d.unsure {
		return p.Code == "id_in_future" // its time will come: retry
	}
	if d.reminted {
		return false
	}
	if inTime && p.Time != nil {
		d.client.setTime(*p.Time)
	}
	if p.Code == "id_not_yours" {
		d.client.forgetMark()
	}
	id, err := d.client.Mint(ctx, d.causes...)
	if err != nil {
		return false
	}
	d.id, d.reminted, d.request = id, true, d.build(id)
	return true
}

func isProblem(err error) bool {
	var p *Problem
	return errors.As(err, &p)
}

// Rooms returns the user's rooms, each with its last message and the unread count.
func (c *Client) Rooms(ctx context.Context) ([]wire.MyRoom, error) {
	var all []wire.MyRoom
	for after := ""; ; {
		var page wire.RoomPage
		if err := c.Query(ctx, "/v1/rooms?limit=200&after="+url.QueryEscape(after), &page); err != nil {
			return nil, err
		}
		for _, room := range page.Rooms {
			if all = append(all, room); room.Last != nil {
				c.see(room.Last.ID)
			}
		}
		if page.After == nil {
			return all, nil
		}
		after = *page.After
	}
}

// Page selects messages of a room: those next to an id, or the latest.
type Page struct {
	Before, After events.ID // at most one of them
	Limit         int       // 1 to 200; 50 if 0
}

// Messages returns a page of a room's messages, oldest first. If it is shorter than the limit there
// are no more.
func (c *Client) Messages(ctx context.Context, room string, p Page) ([]wire.Message, error) {
	q := url.Values{}
	if p.Before != (events.ID{}) {
		q.Set("before", p.Before.String())
	}
	if p.After != (events.ID{}) {
		q.Set("after", p.After.String())
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	var page wire.MessagePage
	if err := c.Query(ctx, "/v1/rooms/"+url.PathEscape(room)+"/messages?"+q.Encode(), &page); err != nil {
		return nil, err
	}
	for _, m := range page.Messages {
		c.see(m.ID)
	}
	return page.Messages, nil
}

// Message returns one message.
func (c *Client) Message(ctx context.Context, room string, id events.ID) (wire.Message, error) {
	var m wire.Message
	err := c.Query(ctx, messagePath(room, id), &m)
	return m, err
}

// Query sends any query of the API and decodes the answer into out. It retries, in any region that
// answers, until there is an answer or a problem that is not retryable, or ctx ends.
func (c *Client) Query(ctx context.Context, path string, out any) error {
	began := time.Now()
	r := request{method: http.MethodGet, path: path}
	a, err := c.retry(ctx, &r, func(p *Problem) bool {
		return !p.Retryable || p.Status == http.StatusNotFound && time.Since(began) > notYetQuery
	})
	if err != nil {
		return err
	}
	note(ctx, a.region)
	return json.Unmarshal(a.body, out)
}
