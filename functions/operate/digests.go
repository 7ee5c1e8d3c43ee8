package operate

import (
	"context"
	"encoding/hex"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// digestHandlers let operators compare the logs of two regions.
type digestHandlers struct{ *handlers }

func (h digestHandlers) register(a *api.API) {
	query(a, api.Operation{
		ID: "listDigests", Method: "GET", Path: "/v1/ops/digests",
		Summary: "A page of digests of this region's log, by stream and hour",
		Detail: "Two regions have the same events in an hour of a stream where their digests are the same. The hours are those of the " +
			"events' ids. A page may end before its limit; continue with after.",
	}, h.listDigests)
	query(a, api.Operation{
		ID: "listEventDigests", Method: "GET", Path: "/v1/ops/digests/events",
		Summary: "A page of digests of the events of a stream in one hour, one by one",
	}, h.listEventDigests)
}

type digestsInput struct {
	Part  string `query:"part" doc:"i/n, i from 0: one of n parts." default:"0/1"`
	After string `query:"after" doc:"As the last page gave it."`
	Until string `query:"until" doc:"Leave out events of this time or later: replication may be on its way."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

// digestFor is how long one page of digests is worked on, about.
const digestFor = 2 * time.Second

func (h digestHandlers) listDigests(ctx context.Context, in *digestsInput) (*api.Response[wire.DigestPage], error) {
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
	page, last := wire.DigestPage{Digests: []wire.Digest{}}, ""
	end := time.Now().Add(digestFor)
	for d, err := range projections.Digests(ctx, h.Log, part, after, until) {
		if err != nil {
			return nil, err
		}
		if n := len(page.Digests); n == in.Limit || n > 0 && time.Now().After(end) {
			page.After = &last
			break
		}
		var shared []wire.SharedID
		for _, one := range d.Shared {
			shared = append(shared, wire.SharedID{ID: one.Ref.String(), Type: one.Type, Region: one.Region})
		}
		page.Digests = append(page.Digests, wire.Digest{
			Stream: string(d.Stream), Hour: d.Hour, Count: d.Count, SHA256: hex.EncodeToString(d.SHA256), Shared: shared,
		})
		last = keyText(d.Last)
	}
	return api.OK(page), nil
}

type eventDigestsInput struct {
	Stream string `query:"stream" required:"true"`
	Hour   string `query:"hour" required:"true" doc:"A time in it."`
	After  string `query:"after" doc:"Events that sort after this one."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

func (h digestHandlers) listEventDigests(ctx context.Context, in *eventDigestsInput) (*api.Response[wire.EventDigestPage], error) {
	stream, err := parseStream(in.Stream)
	if err != nil {
		return nil, err
	}
	hour, err := time.Parse(time.RFC3339Nano, in.Hour)
	if err != nil || hour.Before(time.Unix(0, 0)) {
		return nil, events.Invalid("hour", "must be a time as in RFC 3339, 1970 or later")
	}
	var after events.Ref
	if in.After != "" {
		if after, err = events.ParseRef("after", in.After); err != nil {
			return nil, err
		}
	}
	got, err := projections.DigestEvents(ctx, h.Log, stream, hour, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := wire.EventDigestPage{Events: []wire.EventDigest{}}
	for i, d := range got {
		if i == in.Limit {
			page.After = &page.Events[i-1].ID
			break
		}
		page.Events = append(page.Events, wire.EventDigest{ID: d.Ref.String(), Type: d.Type, SHA256: hex.EncodeToString(d.SHA256)})
	}
	return api.OK(page), nil
}
