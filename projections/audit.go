package projections

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"iter"
	"time"

	"parley/events"
)

// NewAudit returns an audit of the views of these projections, none for all: they are built anew
// from the log beside the live ones, the two are compared, and what was built is dropped. Its
// Compared has the findings. With heal the views that differ are folded again from the log. Step
// on with [Rebuilder.Step]. Two audits, or rebuilds, must not have one id.
func NewAudit(id string, heal bool, names ...string) (*Rebuild, error) {
	b, err := NewRebuild(id, names...)
	if err != nil {
		return nil, err
	}
	if b.ofFeed() {
		return nil, fmt.Errorf("%w: %q has no generations to compare; rebuild it", ErrUnknownProjection, FeedName)
	}
	b.Audit, b.Heal = true, heal
	return b, nil
}

// Digest is what there is of one stream in one hour, in a form that two regions can compare: they
// have the same events if it is the same.
type Digest struct {
	Stream events.Stream `json:"stream"`
	Hour   time.Time     `json:"hour"` // by the events' ids, when it begins
	Count  int           `json:"count"`
	SHA256 []byte        `json:"sha256"` // over the digests of the events, in the order of their ids
	// Last is the last event: a scan goes on behind it.
	Last events.Key `json:"last"`
}

// Digests digests a part of the log, stream by stream and hour by hour, beginning behind after:
// the zero Key, or Last of a digest of the same part. Events with ids of the time until, or later,
// are left out, since regions have yet to agree on them; the zero time is no bound.
func Digests(ctx context.Context, log events.Log, part events.Part, after events.Key, until time.Time) iter.Seq2[Digest, error] {
	return func(yield func(Digest, error) bool) {
		var d digester
		for e, err := range log.Scan(ctx, part, after) {
			if err != nil {
				yield(Digest{}, err)
				return
			}
			if !until.IsZero() && !e.ID.Timestamp().Before(until) {
				continue
			}
			if done, ok := d.add(e); ok && !yield(done, nil) {
				return
			}
		}
		if d.Count > 0 {
			yield(d.sum(), nil)
		}
	}
}

// digester digests events of one stream and hour.
type digester struct {
	Digest
	hash hash.Hash
}

// add takes an event, and returns the digest of those before it if it is the first of another
// stream or hour.
func (d *digester) add(e events.Event) (done Digest, ok bool) {
	hour := e.ID.Timestamp().UTC().Truncate(time.Hour)
	if d.Count > 0 && (e.Stream != d.Stream || !hour.Equal(d.Hour)) {
		done, ok = d.sum(), true
		d.Count = 0
	}
	if d.Count == 0 {
		d.Digest, d.hash = Digest{Stream: e.Stream, Hour: hour}, sha256.New()
	}
	sum := digestOf(e)
	_, _ = d.hash.Write(sum[:]) // never fails
	d.Count++
	d.Last = events.Key{Stream: e.Stream, ID: e.ID}
	return done, ok
}

func (d *digester) sum() Digest {
	done := d.Digest
	done.SHA256 = d.hash.Sum(nil)
	return done
}

// EventDigest is one event in a form that two regions can compare.
type EventDigest struct {
	ID     events.ID `json:"id"`
	Type   string    `json:"type"`
	SHA256 []byte    `json:"sha256"`
}

// DigestEvents digests the events of one stream and hour one by one, at most limit, those behind
// an id; the zero id begins.
func DigestEvents(ctx context.Context, log events.Log, stream events.Stream, hour time.Time, after events.ID, limit int) ([]EventDigest, error) {
	var first, end events.ID
	hour = hour.UTC().Truncate(time.Hour)
	if err := first.SetTime(uint64(max(hour.UnixMilli(), 0))); err != nil {
		return nil, fmt.Errorf("digest events: %w", err)
	}
	if err := end.SetTime(uint64(max(hour.Add(time.Hour).UnixMilli(), 0))); err != nil {
		return nil, fmt.Errorf("digest events: %w", err)
	}
	if first = events.PrecedingID(first); after.Compare(first) > 0 {
		first = after
	}
	all := []EventDigest{}
	for e, err := range log.Read(ctx, stream, events.Range{After: first, Before: end, Limit: limit}) {
		if err != nil {
			return nil, fmt.Errorf("digest events: %w", err)
		}
		sum := digestOf(e)
		all = append(all, EventDigest{e.ID, e.Type, sum[:]})
	}
	return all, nil
}

// digestOf digests an event. Two that are [events.Same] have one digest: the region is left out,
// and the payload taken in its newest version, as it is spelled today.
func digestOf(e events.Event) [sha256.Size]byte {
	var b bytes.Buffer
	put := func(text string) {
		var size [binary.MaxVarintLen64]byte
		b.Write(size[:binary.PutUvarint(size[:], uint64(len(text)))])
		b.WriteString(text)
	}
	stored := events.Encode(e)
	kind, data := stored.Type, stored.Data
	if _, bad := e.Payload.(events.Unreadable); !bad {
		if spelled, err := json.Marshal(e.Payload); err == nil {
			kind, data = e.Type, string(spelled)
		}
	}
	for _, text := range []string{stored.Stream, stored.ID, kind, stored.Actor, data} {
		put(text)
	}
	return sha256.Sum256(b.Bytes())
}
