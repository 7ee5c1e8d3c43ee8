package logtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"parley/events"
)

// modelShards is how many shards the change stream of a [Model] has. Real change streams have
// several, DynamoDB Local and pebblelog have one: what works over a Model does not assume one.
const modelShards = 4

// modelShard holds the records of some streams, in their order.
type modelShard struct {
	records []events.Record // with no Sequence yet
	trimmed int             // so many of them, from the first, are gone
}

// modelCheckpoint is how many records of each shard it covers.
type modelCheckpoint [modelShards]int

func (c modelCheckpoint) String() string {
	var texts []string
	for _, n := range c {
		texts = append(texts, strconv.Itoa(n))
	}
	return strings.Join(texts, ",")
}

var _ events.Replica = (*Model)(nil)

// Next implements [events.Follower]: of one shard at a time, and any number of goroutines may call it.
func (m *Model) Next(ctx context.Context, checkpoint string, limit int, wait bool) ([]events.Record, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read change stream: %w", err)
		}
		records, inserted, err := m.look(checkpoint, max(limit, 1))
		if err != nil {
			return nil, fmt.Errorf("read change stream: %w", err)
		}
		if len(records) > 0 || !wait {
			return records, nil
		}
		select {
		case <-inserted:
		case <-ctx.Done():
		}
	}
}

// look returns the next records of one shard, of another one each time.
func (m *Model) look(checkpoint string, limit int) ([]events.Record, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.parse(checkpoint)
	if err != nil {
		return nil, nil, err
	}
	first := 0
	for _, n := range at {
		first += n
	}
	for i := range modelShards {
		shard := (first + i) % modelShards
		var records []events.Record
		for _, r := range m.shards[shard].records[at[shard]:] {
			if len(records) == limit {
				break
			}
			at[shard]++
			r.Sequence, r.Number = at.String(), events.Number(strconv.Itoa(at[shard]))
			records = append(records, r)
		}
		if len(records) > 0 {
			return records, nil, nil
		}
	}
	if m.inserted == nil {
		m.inserted = make(chan struct{})
	}
	return nil, m.inserted, nil
}

// parse reads a checkpoint.
func (m *Model) parse(checkpoint string) (at modelCheckpoint, err error) {
	texts := strings.Split(checkpoint, ",")
	if checkpoint == "" {
		texts = make([]string, modelShards)
	}
	if len(texts) != modelShards {
		return at, events.ErrCheckpoint
	}
	trimmed := false
	resume := at
	for i, text := range texts {
		shard := &m.shards[i]
		if text == "" {
			at[i] = shard.trimmed
		} else if at[i], err = strconv.Atoi(text); err != nil || at[i] > len(shard.records) {
			return at, events.ErrCheckpoint
		}
		trimmed = trimmed || at[i] < shard.trimmed
		resume[i] = max(at[i], shard.trimmed)
	}
	if trimmed {
		return at, &events.TrimmedError{Resume: resume.String()}
	}
	return at, nil
}

// insert puts an event into the log and its change stream. m.mu must be held.
func (m *Model) insert(r events.Record) {
	stream := m.streams[r.Event.Stream]
	if stream == nil {
		stream = map[events.Ref]accepted{}
		m.streams[r.Event.Stream] = stream
	}
	stream[r.Event.Ref()] = accepted{events.Encode(r.Event), r.At}
	m.emit(r)
}

// emit puts a record into the change stream. m.mu must be held.
func (m *Model) emit(r events.Record) {
	for i := range modelShards {
		if (events.Part{Index: i, Of: modelShards}).Holds(r.Event.Stream) {
			m.shards[i].records = append(m.shards[i].records, r)
		}
	}
	if m.inserted != nil {
		close(m.inserted)
		m.inserted = nil
	}
}

// EmitUndecodable puts a record into the change stream that is not an event.
func (m *Model) EmitUndecodable() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.emit(events.Record{Err: errors.New("not an event"), Raw: json.RawMessage(`{"not":"an event"}`)})
}

// Trim removes everything that the change stream has from it; the log keeps it.
func (m *Model) Trim() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.shards {
		m.shards[i].trimmed = len(m.shards[i].records)
	}
}

// Snapshot implements [events.Replica].
func (m *Model) Snapshot(ctx context.Context, do func([]events.Record) error) (string, error) {
	m.mu.Lock()
	var at modelCheckpoint
	for i := range m.shards {
		at[i] = len(m.shards[i].records)
	}
	var all []events.Record
	for _, stream := range m.streams {
		for _, a := range stream {
			e, err := events.Decode(a.Stored)
			if err != nil {
				m.mu.Unlock()
				return "", err
			}
			all = append(all, events.Record{Event: e, At: a.at})
		}
	}
	m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := do(all); err != nil {
		return "", err
	}
	return at.String(), nil
}

// Replicate implements [events.Replica].
func (m *Model) Replicate(ctx context.Context, records []events.Record) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("replicate events: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		if err := r.Event.Stream.Validate(); err != nil {
			return fmt.Errorf("replicate events: %w", err)
		}
		if _, there := m.streams[r.Event.Stream][r.Event.Ref()]; !there {
			m.insert(events.Record{Event: r.Event, Replica: true, At: r.At})
		}
	}
	return nil
}
