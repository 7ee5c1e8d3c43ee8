package keys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

// root is a [Wrapper] with a root key in memory.
type root struct{ wrap cipher.AEAD }

// NewRoot returns a [Wrapper] that wraps with a root key of 32 random bytes that all regions share:
// AES-256-GCM (RFC 5116) with a random nonce, bound to the user. Whoever loses the root key loses
// all personal content.
func NewRoot(key []byte) (Wrapper, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("a root key must have %d bytes", keySize)
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
		return nil, errors.New("unwrap a data key: it was not wrapped with this root key")
	}
	return key, nil
}
