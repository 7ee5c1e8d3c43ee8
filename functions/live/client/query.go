package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"parley/events"
)

// Rooms returns the user's rooms, each with its last message and her unread count.
func (c *Client) Rooms(ctx context.Context) ([]Room, error) {
	var all []Room
	for after := ""; ; {
		var page struct {
			Rooms []Room  `json:"rooms"`
			After *string `json:"after"`
		}
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

// Page says which messages of a room are wanted: those next to an id, or the latest.
type Page struct {
	Before, After events.ID // at most one of them
	Limit         int       // 1 to 200; 50 if 0
}

// Messages returns a page of a room's messages, oldest first. Where it is shorter than the limit
// there are no more.
func (c *Client) Messages(ctx context.Context, room string, p Page) ([]Message, error) {
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
	var page struct {
		Messages []Message `json:"messages"`
	}
	if err := c.Query(ctx, "/v1/rooms/"+url.PathEscape(room)+"/messages?"+q.Encode(), &page); err != nil {
		return nil, err
	}
	for _, m := range page.Messages {
		c.see(m.ID)
	}
	return page.Messages, nil
}

// Message returns one message.
func (c *Client) Message(ctx context.Context, room string, id events.ID) (Message, error) {
	var m Message
	err := c.Query(ctx, messagePath(room, id), &m)
	return m, err
}

// Query asks anything of the API and decodes the answer into out. It asks again, any region that
// answers, until ctx ends or there is an answer or a problem that will not pass.
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
