// Package keys seals personal content, so that a user can be erased from a log that never forgets.
//
// Each user has a data key. What she writes is sealed with it before it reaches the log, and from
// there on log, folds, views, feeds and parked events hold the sealed form. Only the edges open it:
// a query, a socket, the bus, an operator's look. To erase her, her key is destroyed: what was
// sealed with it can never be read again, in any region, from any copy, and the log stays as it is.
//
// Keys stand in a small table beside the log that is replicated as the log is, each wrapped by a
// root key that is not in it: [Store] and [Wrapper]. A [Ring] is what the edges use.
//
// Sealing is a function of the user's key, the event's id and the text: AES-256-GCM (RFC 5116)
// under a nonce that is itself a keyed digest, HMAC-SHA-256 of id, field and text, cut to 96 bits.
// So a command sent again is the same event down to its bytes, and two logs can be compared without
// opening anything; while who has no key learns from a nonce nothing but that. Two texts get the
// same nonce only by chance, at 2^48 texts of one user. (The construction is that of SIV, RFC 5297.)
package keys

import (
	"context"
	"encoding/hex"
	"errors"
	"iter"
)

// Store keeps users' data keys, wrapped, in one region. It is replicated to the other regions as a
// set that grows: keys are added, never changed. Every driver passes the suite in keystest.
//
// Where two regions each make a first key for a user before they hear of each other she has two.
// Content names the key that it was sealed with.
type Store interface {
	// Load returns what there is of a user in this region; the zero Keys if nothing. It sees every
	// Add and Erase that returned in this region.
	Load(ctx context.Context, user string) (Keys, error)
	// Add adds a key to a user's and returns once it is durable. Added twice it is there once. If
	// she was erased it returns ErrErased, and the key must not be used.
	Add(ctx context.Context, user string, key Wrapped) error
	// Erase destroys all keys of a user, and marks her as erased for good. After an error it may be
	// done in part: do it again.
	Erase(ctx context.Context, user string) error
	// Users yields the users of whom there is something, in any order. After an error it yields no more.
	Users(ctx context.Context) iter.Seq2[string, error]
}

// Keys is what there is of a user.
type Keys struct {
	Wrapped []Wrapped // in the order of their ids
	Erased  bool      // then no key of hers may be used, should one be there
}

// Wrapped is a data key, wrapped.
type Wrapped struct {
	ID    ID
	Bytes []byte // at most MaxWrapped
}

// MaxWrapped is the most bytes that a wrapped key has: what KMS makes of 32 bytes is below 200.
const MaxWrapped = 1024

// ID tells the keys of one user apart.
type ID [8]byte

// String is the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what [ID.String] writes.
func ParseID(text string) (ID, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(ID{}) {
		return ID{}, errors.New("no id of a key")
	}
	return ID(b), nil
}

// Wrapper wraps data keys with a root key.
type Wrapper interface {
	// Wrap makes a user's key unreadable to whoever has not the root key.
	Wrap(ctx context.Context, user string, key []byte) ([]byte, error)
	// Unwrap undoes Wrap. It fails if the bytes were not made by it for this user.
	Unwrap(ctx context.Context, user string, wrapped []byte) ([]byte, error)
}

// The errors of keys, to be tested with errors.Is.
var (
	// ErrErased: the user was erased, nothing can be sealed for her.
	ErrErased = errors.New("user was erased")
	// ErrMissing: this region does not have the key, yet; it is replicated apart from the events.
	ErrMissing = errors.New("key of the content's owner is not here, yet")
	// ErrDamaged: the content is not what was sealed. Trying again does not mend it.
	ErrDamaged = errors.New("sealed content is damaged")
)
