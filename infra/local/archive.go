package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"parley/functions/stream"
)

// The archive of a bus has a key for what the bus knows of itself and one for each entry:
//
//	b 00             version, id (16 bytes), the greatest number trimmed (8 bytes)
//	b 01 <number, 8> version, count (8 bytes), time (8 bytes, Unix ms), source, detail type, detail
//
// Source and detail type stand behind their length in one byte.
var busStateKey = []byte{busPrefix, 0}

const (
	entryKind    = 1
	busVersion   = 1
	stateSize    = 1 + len(busID{}) + 8
	entryKeySize = 2 + 8
)

var errBusDamaged = errors.New("archive of the bus is damaged")

// busID tells buses apart.
type busID [16]byte

func newBusID() (id busID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

func busState(id busID, trimmed uint64) []byte {
	state := append(make([]byte, 0, stateSize), busVersion)
	return binary.BigEndian.AppendUint64(append(state, id[:]...), trimmed)
}

func splitState(state []byte) (id busID, trimmed uint64, err error) {
	if len(state) != stateSize || state[0] != busVersion {
		return id, 0, errBusDamaged
	}
	return busID(state[1:]), binary.BigEndian.Uint64(state[1+len(id):]), nil
}

func entryKey(number uint64) []byte { return appendEntryKey(nil, number) }

func appendEntryKey(key []byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64(append(key, busPrefix, entryKind), number)
}

// entrySize is the length of what appendEntry appends.
func entrySize(e stream.Entry) int {
	return 1 + 8 + 8 + 2 + len(e.Source) + len(e.DetailType) + len(e.Detail)
}

func appendEntry(value []byte, count uint64, e stream.Entry) []byte {
	value = append(value, busVersion)
	value = binary.BigEndian.AppendUint64(value, count)
	value = binary.BigEndian.AppendUint64(value, uint64(e.Time.UnixMilli()))
	for _, text := range []string{e.Source, e.DetailType} {
		value = append(append(value, byte(len(text))), text...)
	}
	return append(value, e.Detail...)
}

// entries goes over the entries after a number, as they are now.
func (b *bus) entries(after uint64) (*pebble.Iterator, error) {
	return b.db.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(after + 1),
		UpperBound: []byte{busPrefix, entryKind + 1},
	})
}

// busEntry is an entry in the archive.
type busEntry struct {
	number uint64 // greater than that of all entries before
	count  uint64 // 1 for the first ever put on this bus, 2 for the next and so on
	stream.Entry
}

// readEntry reads the entry an iterator stands at.
func readEntry(it *pebble.Iterator) (busEntry, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return busEntry{}, err
	}
	if len(it.Key()) != entryKeySize || len(value) < 1+8+8 || value[0] != busVersion {
		return busEntry{}, errBusDamaged
	}
	e := busEntry{
		number: binary.BigEndian.Uint64(it.Key()[2:]),
		count:  binary.BigEndian.Uint64(value[1:]),
	}
	e.Time = time.UnixMilli(int64(binary.BigEndian.Uint64(value[9:]))).UTC()
	rest := value[17:]
	for _, text := range []*string{&e.Source, &e.DetailType} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return busEntry{}, errBusDamaged
		}
		*text, rest = string(rest[1:1+rest[0]]), rest[1+int(rest[0]):]
	}
	e.Detail = append(json.RawMessage(nil), rest...)
	return e, nil
}

// envelope is an entry as EventBridge delivers it.
type envelope struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// envelope wraps an entry as EventBridge does, under an id of its own.
func (b *bus) envelope(region string, e busEntry) envelope {
	return envelope{
		Version: "0", ID: b.id.entry(e.number), DetailType: e.DetailType, Source: e.Source,
		Account: "000000000000", Time: e.Time.Format(time.RFC3339), Region: region,
		Resources: []string{}, Detail: e.Detail,
	}
}

// entry is the id of an entry, a UUID: the same whenever the entry is read.
func (id busID) entry(number uint64) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(id[:], number))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: made in a way of one's own
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
