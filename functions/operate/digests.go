package operate

import (
	"context"
	"encoding/hex"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *handlers) registerDigests(a *api.API) {
	query(a, api.Operation{
		ID: "listDigests", Method: "GET", Path: "/v1/ops/digests",
		Summary: "A page of digests of this region's log, by stream and hour",
		Detail: "Two regions have the same events in an hour of a stream where their digests are the same. The hours are those of the " +
			"events' ids. Where a page ends early, or at its limit, after goes on.",
	}, h.listDigests)
	query(a, api.Operation{
		ID: "listEventDigests", Method: "GET", Path: "/v1/ops/digests/events",
		Summary: "A page of digests of the events of a stream in one hour, one by one",
	}, h.listEventDigests)
}

// Digest is what there is of a stream in one hour.
type Digest struct {
	Stream string    `json:"stream"`
	Hour   time.Time `json:"hour" doc:"When it begins."`
	Count  int       `json:"count"`
	SHA256 string    `json:"sha256" doc:"Over the digests of its events, in hexadecimal."`
}

// DigestPage is a part of the digests.
type DigestPage struct {
	Digests []Digest `json:"digests"`
	After   *string  `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

type digestsInput struct {
	Part  string `query:"part" doc:"i/n, i from 0: one of n parts." default:"0/1"`
	After string `query:"after" doc:"As the last page gave it."`
	Until string `query:"until" doc:"Leave out events of this time or later: replication may be on its way."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

// digestFor is how long one page of digests is worked on, about.
const digestFor = 2 * time.Second

func (h *handlers) listDigests(ctx context.Context, in *digestsInput) (*output[DigestPage], error) {
	part, err := parsePart(in.Part)
	if err != nil {
		return nil, err
	}
	after, err := parseKey("after", in.After)
	if err != nil {
		return nil, err
	}
	var until time.Time
	if in.Until != "" {
		if until, err = time.Parse(time.RFC3339Nano, in.Until); err != nil {
			return nil, events.Invalid("until", "must be a time as in RFC 3339")
		}
	}
	page, last := DigestPage{Digests: []Digest{}}, ""
	end := time.Now().Add(digestFor)
	for d, err := range projections.Digests(ctx, h.Log, part, after, until) {
		if err != nil {
			return nil, err
		}
		if n := len(page.Digests); n == in.Limit || n > 0 && time.Now().After(end) {
			page.After = &last
			break
		}
		page.Digests = append(page.Digests, Digest{string(d.Stream), d.Hour, d.Count, hex.EncodeToString(d.SHA256)})
		last = string(d.Last.Stream) + "," + d.Last.ID.String()
	}
	return ok(page), nil
}

// EventDigest is one event, as far as two regions compare it.
type EventDigest struct {
	ID     string `json:"id"`
	Type   string `json:"type"`
	SHA256 string `json:"sha256" doc:"Over what the event says, in hexadecimal; the region that accepted it is left out."`
}

// EventDigestPage is a part of the digests of an hour.
type EventDigestPage struct {
	Events []EventDigest `json:"events"`
	After  *string       `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

type eventDigestsInput struct {
	Stream string `query:"stream" required:"true"`
	Hour   string `query:"hour" required:"true" doc:"A time in it."`
	After  string `query:"after" doc:"Events that sort after this one."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

func (h *handlers) listEventDigests(ctx context.Context, in *eventDigestsInput) (*output[EventDigestPage], error) {
	stream, err := parseStream(in.Stream)
	if err != nil {
		return nil, err
	}
	hour, err := time.Parse(time.RFC3339Nano, in.Hour)
	if err != nil || hour.Before(time.Unix(0, 0)) {
		return nil, events.Invalid("hour", "must be a time as in RFC 3339, 1970 or later")
	}
	var after events.ID
	if in.After != "" {
		if after, err = events.ParseID("after", in.After); err != nil {
			return nil, err
		}
	}
	got, err := projections.DigestEvents(ctx, h.Log, stream, hour, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := EventDigestPage{Events: []EventDigest{}}
	for i, d := range got {
		if i == in.Limit {
			page.After = &page.Events[i-1].ID
			break
		}
		page.Events = append(page.Events, EventDigest{d.ID.String(), d.Type, hex.EncodeToString(d.SHA256)})
	}
	return ok(page), nil
}
