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

// Digest summarizes the events of one stream in one hour, so that two regions can compare them: they
// have the same events if it is the same.
type Digest struct {
	Stream events.Stream `json:"stream"`
	Hour   time.Time     `json:"hour"` // by the events' ids, when it begins
	Count  int           `json:"count"`
	SHA256 []byte        `json:"sha256"` // over the digests of the events, in their order
	// Shared are the events that share their id with another, in order: regions accepted them before
	// they heard of each other. That is no difference between regions.
	Shared []SharedID `json:"shared,omitempty"`
	// Last is the last event: pass it as after to continue behind it.
	Last events.Key `json:"last"`
}

// SharedID is an event that shares its id with another of its stream.
type SharedID struct {
	Ref    events.Ref `json:"id"`
	Type   string     `json:"type"`
	Region string     `json:"region"` // that accepted it
}

// Digests yields the digests of a part of the log, stream by stream and hour by hour, beginning
// behind after: the zero Key, or Last of a digest of the same part. Events with ids of the time
// until, or later, are left out, since replication may not have finished; the zero time is no bound.
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
	last SharedID   // the last event
	bare events.Ref // that the last event without a digest would have if it was appended anew
}

// add adds an event, and returns the digest of those before it if it is the first of another stream
// or hour.
func (d *digester) add(e events.Event) (done Digest, ok bool) {
	hour := e.ID.Timestamp().UTC().Truncate(time.Hour)
	if d.Count > 0 && (e.Stream != d.Stream || !hour.Equal(d.Hour)) {
		done, ok = d.sum(), true
		d.Count = 0
	}
	if d.Count == 0 {
		d.Digest, d.hash = Digest{Stream: e.Stream, Hour: hour}, sha256.New()
	}
	d.Last = e.Key()
	switch {
	case e.Digest == (events.Digest{}):
		d.bare = e.WithDigest().Ref()
	case e.Ref() == d.bare:
		return done, ok // the same event
	}
	sum, one := digestOf(e), SharedID{e.Ref(), e.Type, e.Region}
	_, _ = d.hash.Write(sum[:]) // never fails
	if d.Count++; d.Count > 1 && d.last.Ref.ID == e.ID {
		if n := len(d.Shared); n == 0 || d.Shared[n-1].Ref != d.last.Ref {
			d.Shared = append(d.Shared, d.last)
		}
		d.Shared = append(d.Shared, one)
	}
	d.last = one
	return done, ok
}

func (d *digester) sum() Digest {
	done := d.Digest
	done.SHA256 = d.hash.Sum(nil)
	return done
}

// EventDigest is the digest of one event.
type EventDigest struct {
	Ref    events.Ref `json:"id"`
	Type   string     `json:"type"`
	SHA256 []byte     `json:"sha256"` // of an event with a digest in its key and of one without the same
}

// DigestEvents returns the digests of the events of one stream and hour, at most limit, those
// behind a Ref; the zero Ref begins.
func DigestEvents(ctx context.Context, log events.Log, stream events.Stream, hour time.Time, after events.Ref, limit int) ([]EventDigest, error) {
	var first, end events.ID
	hour = hour.UTC().Truncate(time.Hour)
	if err := first.SetTime(uint64(max(hour.UnixMilli(), 0))); err != nil {
		return nil, fmt.Errorf("digest events: %w", err)
	}
	if err := end.SetTime(uint64(max(hour.Add(time.Hour).UnixMilli(), 0))); err != nil {
		return nil, fmt.Errorf("digest events: %w", err)
	}
	r := events.Range{After: events.PrecedingID(first), Before: end, Limit: limit}
	read := log.Read(ctx, stream, r)
	if after.ID.Compare(r.After) > 0 {
		read = events.ReadBehind(ctx, log, stream, after, r)
	}
	all := []EventDigest{}
	for e, err := range read {
		if err != nil {
			return nil, fmt.Errorf("digest events: %w", err)
		}
		sum := digestOf(e)
		if all = append(all, EventDigest{e.Ref(), e.Type, sum[:]}); len(all) == limit {
			break
		}
	}
	return all, nil
}

// digestOf returns the digest of an event. Equal events that two regions accepted have the same digest:
// the region is left out, and the payload is encoded in its newest version.
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
	for _, text := range []string{stored.Stream, e.ID.String(), kind, stored.Actor, data} {
		put(text)
	}
	return sha256.Sum256(b.Bytes())
}
