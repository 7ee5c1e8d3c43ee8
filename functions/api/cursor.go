package api

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"parley/events"
	"parley/projections"
)

// Cursors encodes places in the feeds of a user's rooms as opaque text for clients, and decodes it. A cursor is
// valid in every region that has the same key, after any restart, and for its user only. It is
// encrypted (AES-256-GCM, RFC 5116): clients can neither forge one nor read the traffic of a region
// from it.
type Cursors struct{ seal cipher.AEAD }

// NewCursors returns the cursors of a key: 32 random bytes that all regions share. If the key changes,
// old cursors are refused, and clients reload everything.
func NewCursors(key []byte) (*Cursors, error) {
	if len(key) != 32 {
		return nil, errors.New("the key of cursors must have 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cursors: %w", err)
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make cursors: %w", err)
	}
	return &Cursors{seal}, nil
}

const (
	cursorVersion = 2
	// formerVersion is that of the release before: its cursors ask for everything to be loaded again.
	formerVersion = 1
	// MaxCursor bounds the length of a cursor in bytes. One with [projections.MaxPlaces] places has about
	// 2,500.
	MaxCursor = 4 << 10
	// MaxPlainCursor bounds the length of a cursor that has no places and no page under way.
	MaxPlainCursor = 256
)

// Encode writes a cursor of a user.
func (c *Cursors) Encode(user string, p projections.Cursor) string {
	b := make([]byte, 0, 64+len(p.Region)+len(p.After)+20*len(p.Places))
	b = appendText(b, p.Region)
	at := p.At.UnixMilli()
	b = binary.AppendVarint(b, at)
	for _, t := range []time.Time{p.Low, p.Until} {
		ms := int64(0)
		if !t.IsZero() {
			ms = t.UnixMilli()
		}
		b = binary.AppendVarint(b, ms)
	}
	b = appendText(b, string(p.After))
	entered := byte(0)
	if p.Entered {
		entered = 1
	}
	b = append(b, entered)
	for tag, place := range p.Places {
		b = append(b, tag[:]...)
		b = binary.AppendUvarint(b, place.Position)
		b = binary.AppendUvarint(b, place.Part)
		b = binary.AppendVarint(b, place.At.UnixMilli()-at)
	}
	return base64.RawURLEncoding.EncodeToString(c.seal.Seal([]byte{cursorVersion}, nil, b, []byte(user)))
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// Decode reads a user's cursor. That of a cursor of the release before has no Region. The error, for text
// that is not a cursor of this user, is a [wire.Problem] that names the field.
func (c *Cursors) Decode(field, user, text string) (projections.Cursor, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(text) > MaxCursor || len(sealed) == 0 || sealed[0] != cursorVersion && sealed[0] != formerVersion {
		return projections.Cursor{}, noCursor(field)
	}
	b, err := c.seal.Open(nil, nil, sealed[1:], []byte(user))
	if err != nil {
		return projections.Cursor{}, noCursor(field)
	}
	if sealed[0] == formerVersion {
		return projections.Cursor{}, nil
	}
	p, ok := decodeCursor(b)
	if !ok {
		return projections.Cursor{}, noCursor(field)
	}
	return p, nil
}

func noCursor(field string) error {
	return Fail(http.StatusUnprocessableEntity, "invalid_cursor",
		field+": cursor is invalid or belongs to another user; call GET /v1/rooms for a new one and reload")
}

// decodeCursor reads what Encode sealed.
func decodeCursor(b []byte) (p projections.Cursor, ok bool) {
	r := cursorReader{rest: b}
	p.Region = r.text()
	at := r.signed()
	p.At = time.UnixMilli(at)
	for _, t := range []*time.Time{&p.Low, &p.Until} {
		if ms := r.signed(); ms != 0 {
			*t = time.UnixMilli(ms)
		}
	}
	p.After = events.Stream(r.text())
	p.Entered = r.unsigned() == 1
	p.Places = map[projections.FeedTag]projections.Place{}
	for !r.failed && len(r.rest) > 0 {
		var tag projections.FeedTag
		copy(tag[:], r.bytes(uint64(len(tag))))
		place := projections.Place{Position: r.unsigned(), Part: r.unsigned()}
		place.At = time.UnixMilli(at + r.signed())
		p.Places[tag] = place
	}
	return p, !r.failed && p.Region != ""
}

// cursorReader reads the fields of a cursor. Once one is cut off, it has failed.
type cursorReader struct {
	rest   []byte
	failed bool
}

func (r *cursorReader) bytes(n uint64) []byte {
	if r.failed || n > uint64(len(r.rest)) {
		r.failed = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *cursorReader) text() string { return string(r.bytes(r.unsigned())) }

func (r *cursorReader) unsigned() uint64 {
	n, size := binary.Uvarint(r.rest)
	return advance(r, n, size)
}

func (r *cursorReader) signed() int64 {
	n, size := binary.Varint(r.rest)
	return advance(r, n, size)
}

func advance[N uint64 | int64](r *cursorReader, n N, size int) N {
	if size <= 0 {
		r.failed = true
		return 0
	}
	r.bytes(uint64(size))
	return n
}
