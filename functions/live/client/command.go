package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"parley/events"
)

// NewMessage is a message to be posted.
type NewMessage struct {
	Text    string
	ReplyTo *events.ID // the message it answers
	Thread  *events.ID // the message in whose thread it is to stand
	ID      events.ID  // of [Client.Mint]; zero: Post mints one
}

// Send posts a text to a room. See [Client.Post].
func (c *Client) Send(ctx context.Context, room, text string) (Message, error) {
	return c.Post(ctx, room, NewMessage{Text: text})
}

// Post posts a message to a room, and sends it again under the same id, to any region that
// answers, until it is accepted or refused for good, which is a [Problem]. If ctx ends before, the
// error is an [UnsureError] unless it surely did not happen. It comes as an [Event], too.
func (c *Client) Post(ctx context.Context, room string, m NewMessage) (Message, error) {
	var causes []events.ID
	for _, id := range []*events.ID{m.ReplyTo, m.Thread} {
		if id != nil {
			causes = append(causes, *id)
		}
	}
	var posted Message
	after := c.lastSeen()
	_, err := c.command(ctx, m.ID, causes, func(id events.ID) request {
		body := map[string]any{"text": m.Text}
		if m.ReplyTo != nil {
			body["reply_to"] = m.ReplyTo
		}
		if m.Thread != nil {
			body["thread"] = m.Thread
		}
		if after != (events.ID{}) && after.Compare(id) < 0 {
			body["after"] = after
		}
		return request{method: http.MethodPut, path: messagePath(room, id), body: body}
	}, &posted)
	return posted, err
}

// Edit replaces the text of a message of the user's.
func (c *Client) Edit(ctx context.Context, room string, message events.ID, text string) error {
	return c.onMessage(ctx, http.MethodPatch, room, message, "", map[string]string{"text": text})
}

// Delete takes a message back for good.
func (c *Client) Delete(ctx context.Context, room string, message events.ID) error {
	return c.onMessage(ctx, http.MethodDelete, room, message, "", nil)
}

// React adds the user's reaction to a message: one visible character or a :name:.
func (c *Client) React(ctx context.Context, room string, message events.ID, emoji string) error {
	return c.onMessage(ctx, http.MethodPut, room, message, "/reactions/"+url.PathEscape(emoji), nil)
}

// Unreact takes the user's reaction back.
func (c *Client) Unreact(ctx context.Context, room string, message events.ID, emoji string) error {
	return c.onMessage(ctx, http.MethodDelete, room, message, "/reactions/"+url.PathEscape(emoji), nil)
}

// MarkRead says that the user has read a room up to a message.
func (c *Client) MarkRead(ctx context.Context, room string, upTo events.ID) error {
	_, err := c.Command(ctx, http.MethodPut, "/v1/rooms/"+url.PathEscape(room)+"/read", map[string]any{"up_to": upTo}, nil, upTo)
	return err
}

// NewRoom is a room to be created.
type NewRoom struct {
	Name    string
	Topic   string
	Private bool      // invisible to all but its members
	ID      events.ID // of [Client.Mint]; zero: CreateRoom mints one
}

// CreateRoom creates a room, whose owner the user becomes. It sends again as [Client.Post] does.
func (c *Client) CreateRoom(ctx context.Context, room NewRoom) (Room, error) {
	var created Room
	_, err := c.command(ctx, room.ID, nil, func(id events.ID) request {
		body := map[string]any{"name": room.Name, "topic": room.Topic, "private": room.Private}
		return request{method: http.MethodPut, path: "/v1/rooms/" + id.String(), body: body}
	}, &created)
	return created, err
}

// Direct opens the direct room with another user, or finds it.
func (c *Client) Direct(ctx context.Context, user string) (Room, error) {
	var room Room
	_, err := c.Command(ctx, http.MethodPut, "/v1/direct/"+url.PathEscape(user), nil, &room)
	return room, err
}

// Join makes the user a member of a public room. She may be one already.
func (c *Client) Join(ctx context.Context, room string) error {
	return c.AddMember(ctx, room, c.options.User)
}

// AddMember makes somebody a member of a room; it takes an admin.
func (c *Client) AddMember(ctx context.Context, room, user string) error {
	_, err := c.Command(ctx, http.MethodPut, memberPath(room, user), nil, nil)
	return err
}

// Leave ends the user's membership of a room.
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
// and decodes the answer into out unless that is nil. The id sorts after the given causes: the
// message it is about. It is returned: as includes= a query that shows the command's effect takes it.
func (c *Client) Command(ctx context.Context, method, path string, body, out any, causes ...events.ID) (events.ID, error) {
	return c.command(ctx, events.ID{}, causes, func(id events.ID) request {
		return request{method: method, path: path, key: id.String(), body: body}
	}, out)
}

// command sends what build makes under an id, or under a new one if that is zero.
func (c *Client) command(ctx context.Context, id events.ID, causes []events.ID, build func(events.ID) request, out any) (events.ID, error) {
	if id == (events.ID{}) {
		var err error
		if id, err = c.Mint(causes...); err != nil {
			return id, err
		}
	}
	d := &delivery{client: c, id: id, causes: causes, build: build, request: build(id), began: time.Now()}
	a, err := c.retry(ctx, &d.request, d.final)
	if err != nil {
		if d.unsure || !isProblem(err) { // or it was under way when ctx ended
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

// delivery is a command on its way.
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

// final judges what came of an attempt. An id refused for its time is replaced, unless it may
// have been stored all the same.
func (d *delivery) final(p *Problem) bool {
	d.unsure = d.unsure || p.unsure()
	inTime := p.Code == "id_in_future" || p.Code == "id_in_past"
	switch {
	case inTime || p.Code == "id_order":
		return !d.remint(p, inTime)
	case p.Status == http.StatusNotFound && time.Since(d.began) > notYetCommand:
		return true
	default:
		return !p.Retryable
	}
}

func (d *delivery) remint(p *Problem, inTime bool) bool {
	if d.unsure {
		return p.Code == "id_in_future" // its time will come
	}
	if d.reminted {
		return false
	}
	if inTime && p.Time != nil {
		d.client.setTime(*p.Time)
	}
	id, err := d.client.Mint(d.causes...)
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
