package source

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"parley/events"
)

// The ids of what is made follow from what the source names lastingly, never from what else is in the
// source: of a message, from its room, time and key. So another part of the source makes the same ids.

// partBits of the order of a message's id number the parts of a long text; what is left orders the
// messages of a millisecond.
const (
	partBits = 6
	maxParts = 1 << partBits
	maxIndex = 1 << (16 - partBits)
)

// sumOf hashes a list of texts, each preceded by its length.
func sumOf(texts ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, text := range texts {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text)))) // never fails
		_, _ = h.Write([]byte(text))
	}
	h.Sum(sum[:0])
	return sum
}

func hashOf(texts ...string) uint32 {
	sum := sumOf(texts...)
	return binary.BigEndian.Uint32(sum[:])
}

// idOf returns the id of an event at a time, Unix milliseconds, that the texts identify.
func idOf(ms uint64, texts ...string) events.ID {
	sum := sumOf(texts...)
	return events.ImportedID(ms, binary.BigEndian.Uint16(sum[:]), binary.BigEndian.Uint32(sum[1:]))
}

// idTail is the part of an id made by idOf that the texts alone decide.
type idTail [5]byte

func tailOf(id events.ID) idTail { return idTail(id[len(id)-len(idTail{}):]) }

// messageHash is the part of a message's id that its key alone decides.
type messageHash [3]byte

func hashOfMessage(id events.ID) messageHash {
	return messageHash(id[len(id)-len(messageHash{}):])
}

// part returns the id of a part of the message of an id.
func part(id events.ID, n int) events.ID {
	at := len(id) - len(idTail{})
	order := binary.BigEndian.Uint16(id[at:]) | uint16(n)
	binary.BigEndian.PutUint16(id[at:], order)
	return id
}

// exactID returns the id of a message whose time orders it in its room and is its key.
func (r *room) exactID(at time.Time, ms uint64, key string) events.ID {
	micros := at.Nanosecond() / 1000 % 1000
	return events.ImportedID(ms, uint16(micros)<<partBits, hashOf("message", r.name, key)>>8)
}

// keptID returns the id of a message that was exported from Parley: of one that was imported there, the
// same, and of another, one of the same order. ok is false if the key is no such id of its time.
func keptID(key string, ms uint64) (id events.ID, ok bool) {
	former, err := ulid.ParseStrict(key)
	if err != nil || former.Time() != ms {
		return id, false
	}
	if events.Imported(former) {
		return former, true
	}
	order := binary.BigEndian.Uint16(former[6:]) &^ (maxParts - 1)
	return events.ImportedID(ms, order, uint32(former[13])<<16|uint32(former[14])<<8|uint32(former[15])), true
}

// messageID returns the id of a message. Of messages of a millisecond those without exact times keep the
// order of the source, in which index is their place.
func (r *room) messageID(rec Record, ms uint64, index int) events.ID {
	if rec.exact {
		return r.exactID(rec.At, ms, rec.Key)
	}
	if id, ok := keptID(rec.Key, ms); ok {
		return id
	}
	hash := hashOf("message", r.name, rec.At.UTC().Format(time.RFC3339Nano), rec.Author, rec.Text)
	if rec.Key != "" {
		hash = hashOf("message", r.name, rec.Key)
	}
	return events.ImportedID(ms+uint64(index/maxIndex), uint16(index%maxIndex)<<partBits, hash>>8)
}

// recordID returns the id of a record other than a message, such as a change of the room.
func (r *room) recordID(rec Record, ms uint64) events.ID {
	key := rec.Key
	if key == "" {
		key = rec.At.UTC().Format(time.RFC3339Nano)
	}
	return idOf(ms, "record", fmt.Sprint(rec.Kind), r.name, key, rec.Author)
}

// after returns a time, Unix milliseconds, that is later than an id.
func after(id events.ID, ms uint64) uint64 { return max(ms, id.Time()+1) }

// formerHash is the last four bytes of the id that a former release gave to a record.
func formerHash(rec Record) uint32 {
	if rec.Key != "" {
		return hashOf(fmt.Sprint(rec.Kind), rec.Room, rec.Key)
	}
	return hashOf(fmt.Sprint(rec.Kind), rec.Room, rec.At.UTC().Format(time.RFC3339Nano), rec.Text)
}

// formerRooms returns the ids that a former release may have given to the room: it computed them from the
// owner and from the time of creation or of the first record in the file.
func (s *Survey) formerRooms(r *room) (ids []events.ID) {
	owner := events.FormerMark(s.user(r.owner))
	for _, ms := range []uint64{r.createdMillis(s), max(r.first, leadMillis) - leadMillis} {
		if ms == 0 && len(r.people) > 0 && r.first > leadMillis {
			continue
		}
		var id events.ID
		_ = id.SetTime(ms) // checked by millis
		copy(id[6:], owner[:])
		binary.BigEndian.PutUint32(id[12:], hashOf("room", r.key))
		ids = append(ids, id)
	}
	return ids
}
