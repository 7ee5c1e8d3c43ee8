package events

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// An ID has 16 bytes: 6 of Unix milliseconds, 4 of the actor's mark, 6 of randomness.
const (
	markSize   = 4
	markAt     = 6
	randomAt   = markAt + markSize
	randomBits = 48
	// step bounds the random distance of two ids of one millisecond. 2^32 of 2^48 leaves room
	// for 65,000 ids a millisecond on average before the clock must borrow the next.
	stepBits = 32
)

// Mark is what every id of an actor carries after its time: the first 32 bits of the SHA-256 of
// the actor's name. Without it whoever sees a message could write its id in another region
// before replication gets there, and the last writer would win.
func Mark(actor string) [markSize]byte {
	sum := sha256.Sum256([]byte(actor))
	return [markSize]byte(sum[:markSize])
}

// Owns reports whether an id carries the mark of an actor.
func Owns(actor string, id ID) bool { return Mark(actor) == [markSize]byte(id[markAt:randomAt]) }

// The ways an id minted by a client can be wrong, to be tested with errors.Is.
var (
	ErrIDNotYours = errors.New("id does not carry the mark of its actor")
	ErrIDFuture   = errors.New("id lies too far in the future")
	ErrIDPast     = errors.New("id lies too far in the past")
	ErrIDOrder    = errors.New("id does not sort after its cause")
)

// Clock mints ids and judges those that clients have minted. Make one with [NewClock]; it is
// safe for concurrent use.
type Clock struct {
	// Ahead and Behind bound how far the time in an id may be from now when a client first
	// appends it, both inclusive. By default 10 seconds and 24 hours.
	Ahead, Behind time.Duration

	now func() time.Time

	mu     sync.Mutex
	ms     uint64 // of the last id minted from the time alone
	random uint64 // its lower 48 bits
}

// NewClock returns a clock that reads the time from now.
func NewClock(now func() time.Time) *Clock {
	return &Clock{Ahead: 10 * time.Second, Behind: 24 * time.Hour, now: now}
}

// Now is the clock's time.
func (c *Clock) Now() time.Time { return c.now() }

// Mint returns a new id of the actor that sorts after each of the given causes. Ids minted
// without a cause only ever increase for one actor, even when the time is set back. A cause
// ahead of the time moves this one id, not the clock: otherwise whoever sends an id of the near
// future would set the clock for all. The error wraps ErrIDFuture if a cause lies beyond Ahead.
func (c *Clock) Mint(actor string, causes ...ID) (ID, error) {
	for _, cause := range causes {
		if cause.Timestamp().After(c.now().Add(c.Ahead)) {
			return ID{}, fmt.Errorf("mint an id after its cause: %w", ErrIDFuture)
		}
	}
	ms, random := c.tick()
	id := makeID(ms, actor, random)
	for _, cause := range causes {
		if id.Compare(cause) <= 0 {
			id = makeID(cause.Time()+1, actor, random)
		}
	}
	return id, nil
}

// tick advances the clock: in a new millisecond to a random place, within one by a random step.
func (c *Clock) tick() (ms, random uint64) {
	fresh := randomUint64()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := max(c.now().UnixMilli(), 0) // no id can hold a time before 1970
	if uint64(now) > c.ms {
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

// Check judges an id minted by a client: it must carry the actor's mark, lie within the clock's
// window, whose edges belong to it, and sort after each cause. The error wraps one of ErrIDNotYours, ErrIDFuture,
// ErrIDPast and ErrIDOrder. An id in the past may still be a repeat of what was appended in
// time: look before refusing it.
func (c *Clock) Check(actor string, id ID, causes ...ID) error {
	if !Owns(actor, id) {
		return ErrIDNotYours
	}
	for _, cause := range causes {
		if id.Compare(cause) <= 0 {
			return ErrIDOrder
		}
	}
	now, at := c.now(), id.Timestamp()
	switch {
	case at.After(now.Add(c.Ahead)):
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

func makeID(ms uint64, actor string, random uint64) ID {
	var id ID
	var low [8]byte
	_ = id.SetTime(ms) // fails beyond the year 10889
	mark := Mark(actor)
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
