package events

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
)

// An ID has 16 bytes: 6 of Unix milliseconds, 7 of the actor's mark, 3 of randomness.
const (
	markSize   = 7
	markAt     = 6
	randomAt   = markAt + markSize
	randomBits = 24
	// step bounds the random distance of two ids of one millisecond. 2^8 of 2^24 leaves room
	// for 65,000 ids a millisecond on average before the clock must borrow the next.
	stepBits = 8
)

// Mark is what every new id of an actor carries after its time. It is no secret, but only with the
// secret of [NewMarks] can one compute it: nobody finds a user id that has the mark of another.
type Mark [markSize]byte

// String returns the mark in hexadecimal, 14 characters of 0-9 a-f.
func (m Mark) String() string { return hex.EncodeToString(m[:]) }

// ParseMark reads the text of a mark. The error is an [InvalidError] for the named field.
func ParseMark(field, text string) (m Mark, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != markSize {
		return m, Invalid(field, fmt.Sprintf("must have %d hexadecimal digits", 2*markSize))
	}
	return Mark(b), nil
}

// Marks returns the mark of an actor.
type Marks func(actor string) Mark

// NewMarks returns the marks under a secret that all regions share: the first 56 bits of the
// HMAC-SHA-256 of the actor's name.
func NewMarks(secret []byte) Marks {
	return func(actor string) Mark {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(actor)) // never fails
		return Mark(mac.Sum(nil)[:markSize])
	}
}

// Owns reports whether an id carries the mark of an actor.
func (m Marks) Owns(actor string, id ID) bool { return m(actor) == Mark(id[markAt:randomAt]) }

// FormerMark returns what ids carried after their time before there was a secret: the first 32 bits of
// the SHA-256 of the actor's name. Anyone can compute it and, within minutes, find another name with
// the same one. Stored events with it are valid for good, and what a region derives from its cause
// carries it; no command takes it for a new event.
func FormerMark(actor string) [4]byte {
	sum := sha256.Sum256([]byte(actor))
	return [4]byte(sum[:])
}

// importMark is what the ids of imported events carry after their time, in place of an actor's mark. No
// client can mint such an id: a user whose mark begins like this is one in 2^40.
var importMark = [5]byte{'p', 'a', 's', 't', '.'}

// ImportedID returns the id of an event that happened elsewhere at ms, Unix milliseconds, and is
// imported. Events of one millisecond sort by order. The hash, of which 24 bits are taken, separates
// events that are otherwise equal. Time, order and hash must follow from the source alone, so that an
// import that is repeated makes the same ids.
func ImportedID(ms uint64, order uint16, hash uint32) ID {
	var id ID
	_ = id.SetTime(ms) // fails beyond the year 10889
	at := markAt + copy(id[markAt:], importMark[:])
	binary.BigEndian.PutUint16(id[at:], order)
	id[at+2], id[at+3], id[at+4] = byte(hash>>16), byte(hash>>8), byte(hash)
	return id
}

// Imported reports whether an id was made by [ImportedID]: its event is history of another system, of
// which nobody needs to be notified.
func Imported(id ID) bool { return [5]byte(id[markAt:markAt+len(importMark)]) == importMark }

// The ways an id minted by a client can be wrong, to be tested with errors.Is.
var (
	ErrIDNotYours = errors.New("id does not carry the mark of its actor")
	ErrIDFuture   = errors.New("id lies too far in the future")
	ErrIDPast     = errors.New("id lies too far in the past")
	ErrIDOrder    = errors.New("id does not sort after its cause")
)

// Clock mints ids and checks those that clients have minted. Make one with [NewClock]; it is
// safe for concurrent use.
type Clock struct {
	// Ahead and Behind bound how far the time in an id may be from now when a client first
	// appends it, both inclusive. By default 10 seconds and 24 hours.
	Ahead, Behind time.Duration

	now   func() time.Time
	marks Marks

	mu     sync.Mutex
	ms     uint64 // of the last id minted from the time alone
	random uint64 // its lower 24 bits
}

// NewClock returns a clock that reads the time from now and gives ids these marks.
func NewClock(now func() time.Time, marks Marks) *Clock {
	return &Clock{Ahead: 10 * time.Second, Behind: 24 * time.Hour, now: now, marks: marks}
}

// Now is the clock's time.
func (c *Clock) Now() time.Time { return c.now() }

// Mark returns the mark of an actor, which ids that the clock mints carry.
func (c *Clock) Mark(actor string) Mark { return c.marks(actor) }

// Mint returns a new id of the actor that sorts after each of the given causes. Ids minted
// without a cause only ever increase for one actor, unless the time is set back by more than Ahead. A
// cause ahead of the time moves this one id, not the clock: otherwise a client that sends an id of the
// near future would set the clock for all. The error wraps ErrIDFuture if a cause lies beyond
// Ahead.
func (c *Clock) Mint(actor string, causes ...ID) (ID, error) {
	for _, cause := range causes {
		if c.Future(cause) {
			return ID{}, fmt.Errorf("mint an id after its cause: %w", ErrIDFuture)
		}
	}
	return c.MintAfter(actor, causes...), nil
}

// MintAfter is Mint for causes that are in the log. They may lie at any time: a clock may have been
// ahead when they were appended.
func (c *Clock) MintAfter(actor string, stored ...ID) ID {
	ms, random := c.tick()
	mark := c.marks(actor)
	id := makeID(ms, mark, random)
	for _, cause := range stored {
		if id.Compare(cause) <= 0 {
			id = makeID(cause.Time()+1, mark, random)
		}
	}
	return id
}

// Future reports whether an id lies beyond Ahead.
func (c *Clock) Future(id ID) bool { return id.Timestamp().After(c.now().Add(c.Ahead)) }

// tick advances the clock: in a new millisecond to a random place, within one by a random step. If it
// is further ahead of the time than a client may be, the time was wrong, and it goes back.
func (c *Clock) tick() (ms, random uint64) {
	fresh := randomUint64()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := max(c.now().UnixMilli(), 0) // no id can hold a time before 1970
	if uint64(now) > c.ms || c.ms > uint64(now+c.Ahead.Milliseconds()) {
		c.ms, c.random = uint64(now), fresh>>(64-randomBits)
		return c.ms, c.random
	}
	c.random += 1 + fresh>>(64-stepBits)
	if c.random >= 1<<randomBits { // the millisecond is full: borrow the next
		c.ms++
		c.random = fresh >> (64 - randomBits)
	}
	return c.ms, c.random
}

// Check checks an id minted by a client: it must carry the actor's mark, sort after each cause, and lie
// within the clock's window, bounds included; if it has a cause in the future, which must be in the
// log, it may lie up to Ahead after that. The error wraps one of ErrIDNotYours, ErrIDOrder, ErrIDFuture
// and ErrIDPast. The id may still be a repeat of an event that was appended when it was right: read the
// log before refusing it.
func (c *Clock) Check(actor string, id ID, causes ...ID) error {
	if !c.marks.Owns(actor, id) {
		return ErrIDNotYours
	}
	now, at := c.now(), id.Timestamp()
	latest := now
	for _, cause := range causes {
		if id.Compare(cause) <= 0 {
			return ErrIDOrder
		}
		if cause.Timestamp().After(latest) {
			latest = cause.Timestamp()
		}
	}
	switch {
	case at.After(latest.Add(c.Ahead)):
		return ErrIDFuture
	case at.Before(now.Add(-c.Behind)):
		return ErrIDPast
	default:
		return nil
	}
}

// LastID is the greatest id that carries a time, to the millisecond. Before 1970 there is none,
// and the zero id is returned.
func LastID(at time.Time) ID {
	id := ID{}
	if at.UnixMilli() < 0 {
		return id
	}
	for i := range id {
		id[i] = 0xff
	}
	_ = id.SetTime(uint64(at.UnixMilli())) // fails beyond the year 10889
	return id
}

func makeID(ms uint64, mark Mark, random uint64) ID {
	var id ID
	var low [8]byte
	_ = id.SetTime(ms) // fails beyond the year 10889
	copy(id[markAt:], mark[:])
	binary.BigEndian.PutUint64(low[:], random)
	copy(id[randomAt:], low[8-len(id[randomAt:]):])
	return id
}

func randomUint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return binary.BigEndian.Uint64(b[:])
}
