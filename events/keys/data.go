package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"parley/events"
)

const (
	keySize   = 32 // bytes of a root key and of a data key
	nonceSize = 12
	tagSize   = 16
)

// Sealed content is: version (1 byte), the key's id (8), nonce (12), ciphertext, tag (16).
const (
	sealVersion = 1
	nonceAt     = 1 + len(ID{})
	cipherAt    = nonceAt + nonceSize
)

// dataKey is a user's key, ready for use.
type dataKey struct {
	id     ID
	seal   cipher.AEAD
	digest []byte // the key of nonces
}

// newDataKey makes a key of its bytes: from them come one for the cipher and one for the nonces.
func newDataKey(id ID, bytes []byte) (*dataKey, error) {
	if len(bytes) != keySize {
		return nil, fmt.Errorf("a data key must have %d bytes", keySize)
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

// random returns new bytes for a key.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// sealed seals a text of its owner, the text of a field of an event.
func (k *dataKey) sealed(owner string, id events.ID, field, text string) events.Content {
	mac := hmac.New(sha256.New, k.digest)
	mac.Write(id[:])
	mac.Write([]byte(field))
	mac.Write([]byte{0}) // no field's name holds it
	mac.Write([]byte(text))
	var sum [sha256.Size]byte
	nonce := mac.Sum(sum[:0])[:nonceSize]

	b := make([]byte, 0, cipherAt+len(text)+tagSize)
	b = append(b, sealVersion)
	b = append(b, k.id[:]...)
	b = append(b, nonce...)
	return events.Sealed(k.seal.Seal(b, nonce, []byte(text), []byte(owner)))
}

// opened undoes sealed.
func (k *dataKey) opened(owner, sealed string) (events.Content, error) {
	b := []byte(sealed)
	text, err := k.seal.Open(b[cipherAt:cipherAt], b[nonceAt:cipherAt], b[cipherAt:], []byte(owner))
	if err != nil {
		return events.Content{}, ErrDamaged
	}
	return events.Plain(string(text)), nil
}

// keyOf names the key that content was sealed with.
func keyOf(sealed string) (ID, error) {
	if len(sealed) < cipherAt+tagSize || sealed[0] != sealVersion {
		return ID{}, ErrDamaged
	}
	return ID([]byte(sealed[1:nonceAt])), nil
}
