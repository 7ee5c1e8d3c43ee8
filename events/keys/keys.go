// Package keys encrypts (seals) personal content, so that a user can be erased from an append-only
// log.
//
// Each user has a data key. Everything the user writes is encrypted with it before it reaches the
// log. Log, folds, views, feeds and parked events hold only the sealed form; it is decrypted at the
// edges: queries, sockets, the bus, operator commands. To erase a user, their key is destroyed:
// content sealed with it is unreadable from then on, in every region and every copy, and the log
// does not change.
//
// Keys are stored in a small table beside the log, which is replicated like the log. Each key is
// wrapped with a root key that is not in the table: see [Store] and [Wrapper]. The edges use a
// [Ring].
//
// The sealed form is a function of the user's key, the event's id, the field and the text:
// AES-256-GCM (RFC 5116) with a nonce that is HMAC-SHA-256 of id, field and text, cut to 96 bits. So
// a retried command is the same event byte for byte, and two logs can be compared without decrypting
// anything, and sealed content opens only as the field of the event that it was sealed for. Without
// the key, a nonce shows only whether two texts are equal. Two texts of one user share a nonce only by
// chance, expected at about 2^48 texts. (The construction is that of SIV, RFC 5297.)
package keys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"

	"parley/events"
)

// Store keeps the wrapped data keys of users in one region. It is replicated to the other regions as
// a grow-only set: keys are added, never changed. Every driver passes the suite in keystest.
//
// If two regions each create a first key for a user before replication, the user has two keys.
// Sealed content names the key it was sealed with.
type Store interface {
	// Load returns the keys of a user in this region, the zero Keys if there are none. It sees every
	// Add and Erase that returned in this region.
	Load(ctx context.Context, user string) (Keys, error)
	// Add adds a key for a user and returns once it is durable. It is idempotent. If the user was
	// erased it returns ErrErased, and the key must not be used.
	Add(ctx context.Context, user string, key Wrapped) error
	// Erase destroys all keys of a user and records permanently that the user was erased. An error
	// may leave it partly done: retry it.
	Erase(ctx context.Context, user string) error
	// Users yields the users that have keys or were erased, in any order. After an error it yields
	// no more.
	Users(ctx context.Context) iter.Seq2[string, error]
}

// Keys are the stored keys of a user.
type Keys struct {
	Wrapped []Wrapped // in the order of their ids
	Erased  bool      // if set, no key of the user may be used, even if one is stored
}

// Wrapped is a data key encrypted with the root key.
type Wrapped struct {
	ID    ID
	Bytes []byte // at most MaxWrapped
}

// MaxWrapped is the largest size of a wrapped key in bytes. KMS wraps 32 bytes in less than 200.
const MaxWrapped = 1024

// ID identifies one of a user's keys.
type ID [8]byte

// String is the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID parses the result of [ID.String].
func ParseID(text string) (ID, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(ID{}) {
		return ID{}, errors.New("key id is not 16 hexadecimal digits")
	}
	return ID(b), nil
}

// Wrapper wraps data keys with a root key.
type Wrapper interface {
	// Wrap encrypts a user's data key with the root key.
	Wrap(ctx context.Context, user string, key []byte) ([]byte, error)
	// Unwrap reverses Wrap. It fails with ErrDamaged if the bytes are not a key that was wrapped for
	// this user.
	Unwrap(ctx context.Context, user string, wrapped []byte) ([]byte, error)
}

// The errors of keys, to be tested with errors.Is.
var (
	// ErrErased: the user was erased, so that no content can be sealed for them.
	ErrErased = errors.New("user was erased")
	// ErrMissing: this region does not have the key yet: keys are replicated separately from events.
	ErrMissing = errors.New("data key not yet replicated to this region")
	// ErrDamaged: the sealed content, or its key in this region, was altered, or the content was sealed
	// as another field or for another event. A retry does not help.
	ErrDamaged = errors.New("sealed content or its key is damaged")
)

const (
	keySize   = 32 // bytes of a root key and of a data key
	nonceSize = 12
	tagSize   = 16
)

// The layout of sealed content: version (1 byte), key id (8), nonce (12), ciphertext, tag (16).
const (
	sealVersion = 1
	nonceAt     = 1 + len(ID{})
	cipherAt    = nonceAt + nonceSize
)

// dataKey is a user's key, ready for use.
type dataKey struct {
	id     ID
	aead   cipher.AEAD
	digest []byte // the HMAC key of nonces
}

// newDataKey derives two keys from a data key's bytes: for the cipher and for the nonces.
func newDataKey(id ID, bytes []byte) (*dataKey, error) {
	if len(bytes) != keySize {
		return nil, fmt.Errorf("make a data key: it must have %d bytes: %w", keySize, ErrDamaged)
	}
	content, err := hkdf.Expand(sha256.New, bytes, "parley content", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive from a data key: %w", err)
	}
	digest, err := hkdf.Expand(sha256.New, bytes, "parley nonce", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive from a data key: %w", err)
	}
	aead, err := newAEAD(content)
	if err != nil {
		return nil, err
	}
	return &dataKey{id, aead, digest}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	return aead, nil
}

// random returns n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// seal encrypts the text of a field of an event for its owner.
func (k *dataKey) seal(owner string, id events.ID, field, text string) events.Content {
	nonce := k.nonce(id, field, []byte(text))
	b := make([]byte, 0, cipherAt+len(text)+tagSize)
	b = append(b, sealVersion)
	b = append(b, k.id[:]...)
	b = append(b, nonce...)
	return events.Sealed(k.aead.Seal(b, nonce, []byte(text), []byte(owner)))
}

// nonce returns the nonce of a text, which is that of no other event or field.
func (k *dataKey) nonce(id events.ID, field string, text []byte) []byte {
	mac := hmac.New(sha256.New, k.digest)
	mac.Write(id[:])
	mac.Write([]byte(field))
	mac.Write([]byte{0}) // no field name contains it
	mac.Write(text)
	return mac.Sum(make([]byte, 0, sha256.Size))[:nonceSize]
}

// open reverses seal. Sealed content that was moved to another event or field has another nonce than
// its text has there, and is refused.
func (k *dataKey) open(owner string, id events.ID, field, sealed string) (events.Content, error) {
	if k.damaged() {
		return events.Content{}, ErrDamaged
	}
	b := []byte(sealed)
	nonce := b[nonceAt:cipherAt]
	text, err := k.aead.Open(b[cipherAt:cipherAt], nonce, b[cipherAt:], []byte(owner))
	if err != nil || !hmac.Equal(nonce, k.nonce(id, field, text)) {
		return events.Content{}, ErrDamaged
	}
	return events.Plain(string(text)), nil
}

// damaged reports whether the wrapped key could not be unwrapped, so that nothing opens with it.
func (k *dataKey) damaged() bool { return k.aead == nil }

// keyOf returns the id of the key that content was sealed with.
func keyOf(sealed string) (ID, error) {
	if len(sealed) < cipherAt+tagSize || sealed[0] != sealVersion {
		return ID{}, ErrDamaged
	}
	return ID([]byte(sealed[1:nonceAt])), nil
}

// root is a [Wrapper] with a root key in memory.
type root struct{ wrap cipher.AEAD }

// NewRoot returns a [Wrapper] with a root key of 32 random bytes that all regions share. It wraps
// with AES-256-GCM (RFC 5116), a random nonce, and the user as additional data. If the root key is
// lost, all personal content is lost.
func NewRoot(key []byte) (Wrapper, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("make a root key: it must have %d bytes", keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make a root key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make a root key: %w", err)
	}
	return root{aead}, nil
}

// Wrap implements [Wrapper].
func (r root) Wrap(_ context.Context, user string, key []byte) ([]byte, error) {
	return r.wrap.Seal(nil, nil, key, []byte(user)), nil
}

// Unwrap implements [Wrapper].
func (r root) Unwrap(_ context.Context, user string, wrapped []byte) ([]byte, error) {
	key, err := r.wrap.Open(nil, nil, wrapped, []byte(user))
	if err != nil {
		return nil, fmt.Errorf("unwrap a data key: it was not wrapped with this root key: %w", ErrDamaged)
	}
	return key, nil
}
