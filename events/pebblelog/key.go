package pebblelog

import (
	"bytes"
	"encoding/binary"
	"errors"

	"parley/events"
)

// The first byte of a key says what it is a key of.
const (
	eventKind    = 'e'
	positionKind = 'p'
)

const (
	idSize       = len(events.ID{})
	positionSize = 8
	separator    = 0x00 // ends the stream in an event's key; no stream holds it
)

func appendStream(key []byte, stream events.Stream) []byte {
	key = append(key, eventKind)
	key = append(key, stream...)
	return append(key, separator)
}

func eventKey(stream events.Stream, id events.ID) []byte {
	key := make([]byte, 0, 1+len(stream)+1+idSize)
	return append(appendStream(key, stream), id[:]...)
}

func splitEventKey(key []byte) (events.Stream, events.ID, bool) {
	if len(key) == 0 || key[0] != eventKind {
		return "", events.ID{}, false
	}
	stream, id, found := bytes.Cut(key[1:], []byte{separator})
	if !found || len(id) != idSize {
		return "", events.ID{}, false
	}
	return events.Stream(stream), events.ID(id), true
}

// bounds are the first key of a range of a stream and the first key behind it.
func bounds(stream events.Stream, r events.Range) (lower, upper []byte) {
	if r.After == (events.ID{}) {
		lower = appendStream(nil, stream)
	} else {
		lower = append(eventKey(stream, r.After), 0)
	}
	if r.Before == (events.ID{}) {
		upper = appendStream(nil, stream)
		upper[len(upper)-1]++
	} else {
		upper = eventKey(stream, r.Before)
	}
	return lower, upper
}

func positionKey(position uint64) []byte { return appendPositionKey(nil, position) }

func appendPositionKey(key []byte, position uint64) []byte {
	return binary.BigEndian.AppendUint64(append(key, positionKind), position)
}

func splitPositionKey(key []byte) (uint64, bool) {
	if len(key) != 1+positionSize || key[0] != positionKind {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// The first byte of an arrival, the value of a position's key. The event's key without its
// first byte follows.
const (
	inserted = 1
	replaced = 2
)

func appendArrival(value, eventKey []byte, modified bool) []byte {
	kind := byte(inserted)
	if modified {
		kind = replaced
	}
	return append(append(value, kind), eventKey[1:]...)
}

// splitArrival undoes appendArrival.
func splitArrival(value []byte) (eventKey []byte, modified, ok bool) {
	if len(value) == 0 || value[0] != inserted && value[0] != replaced {
		return nil, false, false
	}
	modified = value[0] == replaced
	eventKey = append([]byte(nil), value...)
	eventKey[0] = eventKind
	_, _, ok = splitEventKey(eventKey)
	return eventKey, modified, ok
}

// entryVersion is the first byte of every entry: how to read the rest.
const entryVersion = 1

const headSize = 1 + 8 + 8 // version, position, time

// entry is the value of an event's key. In bytes: the version, the position and the time in 8
// bytes each, then type, actor and region behind their lengths, then the data.
type entry struct {
	position uint64 // at which this content arrived here
	at       int64  // when its region accepted it, in nanoseconds since 1970
	typ      []byte // with its version, as in [events.Stored]
	actor    []byte
	region   []byte
	data     []byte
}

// encodeEntry makes the entry of an event. Its position is set later, see [setPosition].
func encodeEntry(at int64, e events.Event) []byte {
	data := e.Data
	e.Data = nil // not to be copied twice
	stored := events.Encode(e)
	texts := [...]string{stored.Type, stored.Actor, stored.Region}
	value := make([]byte, 0, headSize+len(texts)*binary.MaxVarintLen16+len(stored.Type)+len(stored.Actor)+len(stored.Region)+len(data))
	value = append(value, entryVersion)
	value = binary.BigEndian.AppendUint64(value, 0)
	value = binary.BigEndian.AppendUint64(value, uint64(at))
	for _, text := range texts {
		value = binary.AppendUvarint(value, uint64(len(text)))
		value = append(value, text...)
	}
	return append(value, data...)
}

func setPosition(value []byte, position uint64) {
	binary.BigEndian.PutUint64(value[1:], position)
}

var errDamaged = errors.New("entry is damaged")

// splitEntry reads a value without copying it. Its error says that the value was not written by
// encodeEntry.
func splitEntry(value []byte) (entry, error) {
	if len(value) < headSize || value[0] != entryVersion {
		return entry{}, errDamaged
	}
	e := entry{
		position: binary.BigEndian.Uint64(value[1:]),
		at:       int64(binary.BigEndian.Uint64(value[9:])),
	}
	rest := value[headSize:]
	for _, text := range []*[]byte{&e.typ, &e.actor, &e.region} {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return entry{}, errDamaged
		}
		*text, rest = rest[n:n+int(size)], rest[n+int(size):]
	}
	e.data = rest
	return e, nil
}

// compare orders the contents that regions have accepted under one id. The greatest is the last
// writer and wins. Whatever differs in the stored form decides in the end, so that all regions
// settle on the same bytes.
func (e entry) compare(o entry) int {
	if e.at != o.at {
		if e.at < o.at {
			return -1
		}
		return 1
	}
	if c := bytes.Compare(e.region, o.region); c != 0 {
		return c
	}
	return e.compareContent(o)
}

func (e entry) compareContent(o entry) int {
	if c := bytes.Compare(e.typ, o.typ); c != 0 {
		return c
	}
	if c := bytes.Compare(e.actor, o.actor); c != 0 {
		return c
	}
	return bytes.Compare(e.data, o.data)
}

// sameForm reports whether two entries are the same stored form of an event.
func (e entry) sameForm(o entry) bool {
	return bytes.Equal(e.region, o.region) && e.compareContent(o) == 0
}

// decode makes the event of a key and its value. A damaged value must not hide the rest of its
// stream: its event is unreadable, with the value as its data, to be parked and looked at.
func decode(key, value []byte) (events.Event, entry, error) {
	stream, id, ok := splitEventKey(key)
	if !ok {
		return events.Event{}, entry{}, errDamaged
	}
	ent, err := splitEntry(value)
	if err != nil {
		ent = entry{data: value}
	}
	e, err := events.Decode(events.Stored{
		Stream: string(stream),
		ID:     id.String(),
		Type:   string(ent.typ),
		Actor:  string(ent.actor),
		Region: string(ent.region),
		Data:   string(ent.data),
	})
	return e, ent, err
}
