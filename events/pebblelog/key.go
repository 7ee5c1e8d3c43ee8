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
	digestSize   = len(events.Digest{})
	positionSize = 8
	separator    = 0x00 // ends the stream in an event's key; no stream holds it
)

func appendStream(key []byte, stream events.Stream) []byte {
	key = append(key, eventKind)
	key = append(key, stream...)
	return append(key, separator)
}

// eventKey is the key of an event: its stream, its id, and its digest if it has one. So keys sort
// like the [events.Ref]s of a stream.
func eventKey(k events.Key) []byte {
	key := make([]byte, 0, 1+len(k.Stream)+1+idSize+digestSize)
	key = append(appendStream(key, k.Stream), k.ID[:]...)
	if k.Digest == (events.Digest{}) {
		return key
	}
	return append(key, k.Digest[:]...)
}

func splitEventKey(key []byte) (k events.Key, ok bool) {
	if len(key) == 0 || key[0] != eventKind {
		return k, false
	}
	stream, ref, found := bytes.Cut(key[1:], []byte{separator})
	k.Stream = events.Stream(stream)
	switch {
	case found && len(ref) == idSize: // of a release that stored events under their ids alone
		k.ID = events.ID(ref)
		return k, true
	case found && len(ref) == idSize+digestSize:
		k.ID, k.Digest = events.ID(ref[:idSize]), events.Digest(ref[idSize:])
		return k, k.Digest != (events.Digest{})
	default:
		return k, false
	}
}

// greatestDigest is that of the last key an id can have.
var greatestDigest = events.Digest(bytes.Repeat([]byte{0xff}, digestSize))

// bounds are the first key of a range of a stream and the first key behind it.
func bounds(stream events.Stream, r events.Range) (lower, upper []byte) {
	if r.After == (events.ID{}) {
		lower = appendStream(nil, stream)
	} else {
		lower = append(eventKey(events.Key{Stream: stream, ID: r.After, Digest: greatestDigest}), 0)
	}
	if r.Before == (events.ID{}) {
		upper = appendStream(nil, stream)
		upper[len(upper)-1]++
	} else {
		upper = eventKey(events.Key{Stream: stream, ID: r.Before})
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
// first byte follows. A release that replaced events marked only those replicas that did so.
const (
	appended   = 1
	replicated = 2
)

func appendArrival(value, eventKey []byte, isReplica bool) []byte {
	kind := byte(appended)
	if isReplica {
		kind = replicated
	}
	return append(append(value, kind), eventKey[1:]...)
}

// splitArrival undoes appendArrival.
func splitArrival(value []byte) (eventKey []byte, isReplica, ok bool) {
	if len(value) == 0 || value[0] != appended && value[0] != replicated {
		return nil, false, false
	}
	isReplica = value[0] == replicated
	eventKey = append([]byte(nil), value...)
	eventKey[0] = eventKind
	_, ok = splitEventKey(eventKey)
	return eventKey, isReplica, ok
}

// entryVersion is the first byte of every entry: how to read the rest.
const entryVersion = 1

const headSize = 1 + 8 + 8 // version, position, time

// entry is the value of an event's key. In bytes: the version, the position and the time in 8
// bytes each, then type, actor and region behind their lengths, then the data.
type entry struct {
	position uint64 // at which it arrived here
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

// decode makes the event of a key and its value. A damaged value must not hide the rest of its
// stream: its event is unreadable, with the value as its data, to be parked and looked at.
func decode(key, value []byte) (events.Event, entry, error) {
	k, ok := splitEventKey(key)
	if !ok {
		return events.Event{}, entry{}, errDamaged
	}
	ent, err := splitEntry(value)
	if err != nil {
		ent = entry{data: value}
	}
	e, err := events.Decode(events.Stored{
		Stream: string(k.Stream),
		ID:     k.Ref().String(),
		Type:   string(ent.typ),
		Actor:  string(ent.actor),
		Region: string(ent.region),
		Data:   string(ent.data),
	})
	return e, ent, err
}
