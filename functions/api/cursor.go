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

	"parley/projections"
)

// Cursors writes places in the journals as text for clients to hold, and reads them again. A
// cursor is good in every region that has the same key, after any restart, and for its user only.
// It is sealed (AES-256 in GCM, RFC 5116): nobody can make one up, or read in one how much happens
// in a region.
type Cursors struct{ seal cipher.AEAD }

// NewCursors returns the cursors of a key, 32 random bytes that all regions share. With another
// key old cursors are refused, and clients load everything again.
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
	cursorVersion = 1
	// MaxCursor bounds the length of a cursor: a version, the names of a region and of an epoch, two
	// numbers and what seals it take less.
	MaxCursor = 256
)

// Encode writes a place as a user's cursor.
func (c *Cursors) Encode(user string, p projections.Place) string {
	b := make([]byte, 0, 64+len(p.Region))
	b = append(b, byte(len(p.Region)))
	b = append(b, p.Region...)
	b = append(b, byte(len(p.Epoch)))
	b = append(b, p.Epoch...)
	b = binary.AppendUvarint(b, p.Number)
	low := int64(0)
	if !p.Low.IsZero() {
		low = p.Low.UnixMilli()
	}
	b = binary.AppendUvarint(b, uint64(low))
	return base64.RawURLEncoding.EncodeToString(c.seal.Seal([]byte{cursorVersion}, nil, b, []byte(user)))
}

// Decode reads a user's cursor. What is none, or another's, is a [Problem] that names the field.
func (c *Cursors) Decode(field, user, text string) (projections.Place, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(text) > MaxCursor || len(sealed) == 0 || sealed[0] != cursorVersion {
		return projections.Place{}, noCursor(field)
	}
	b, err := c.seal.Open(nil, nil, sealed[1:], []byte(user))
	if err != nil {
		return projections.Place{}, noCursor(field)
	}
	p, ok := decodePlace(b)
	if !ok {
		return projections.Place{}, noCursor(field)
	}
	return p, nil
}

func noCursor(field string) error {
	return Fail(http.StatusUnprocessableEntity, "invalid_cursor",
		field+": this is no cursor of yours; take the one of GET /v1/rooms, and load everything again")
}

// decodePlace reads what Encode sealed.
func decodePlace(b []byte) (p projections.Place, ok bool) {
	text := func() (s string) {
		if !ok || len(b) == 0 || len(b)-1 < int(b[0]) {
			ok = false
			return ""
		}
		s, b = string(b[1:1+b[0]]), b[1+b[0]:]
		return s
	}
	number := func() uint64 {
		n, size := binary.Uvarint(b)
		if !ok || size <= 0 {
			ok = false
			return 0
		}
		b = b[size:]
		return n
	}
	ok = true
	p.Region, p.Epoch, p.Number = text(), text(), number()
	if low := number(); low > 0 {
		p.Low = time.UnixMilli(int64(low))
	}
	return p, ok && len(b) == 0
}
