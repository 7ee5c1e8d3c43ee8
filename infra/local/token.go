package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// issuer plays the identity provider: it hands out tokens to whoever asks.
type issuer struct {
	url string // its name, the claim iss
	key ed25519.PrivateKey
	kid string // the key's name
}

const (
	keyFile   = "token.key"
	audience  = "parley"
	tokenLife = 24 * time.Hour
)

// openIssuer reads the key in the data folder, or makes it: tokens outlive a restart.
func openIssuer(data string) (*issuer, error) {
	name := filepath.Join(data, keyFile)
	_, fresh, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for tokens: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(fresh)
	if err != nil {
		return nil, fmt.Errorf("make a key for tokens: %w", err)
	}
	if err := writeOnce(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the key for tokens: %w", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged; delete it and a new one is made: %w", name, err)
	}
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return &issuer{key: key, kid: base64.RawURLEncoding.EncodeToString(sum[:8])}, nil
}

func parseKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not in PEM form")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("not an Ed25519 key")
	}
	return private, nil
}

// token makes a token for a user, good for [tokenLife].
func (i *issuer) token(user, scope string, now time.Time) (string, error) {
	claims := jwt.MapClaims{
		"iss": i.url, "aud": audience, "sub": user, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(tokenLife).Unix(),
	}
	if scope != "" {
		claims["scope"] = scope
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = i.kid
	text, err := token.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return text, nil
}

// find is the [jwt.Keyfunc] of tokens from here.
func (i *issuer) find(t *jwt.Token) (any, error) {
	if t.Header["kid"] != i.kid {
		return nil, errors.New("the token is signed with another key")
	}
	return i.key.Public(), nil
}

// jwk is a public key as RFC 8037 has it.
type jwk struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
}

// jwks is the set of keys by which others can verify the tokens.
func (i *issuer) jwks() map[string][]jwk {
	x := base64.RawURLEncoding.EncodeToString(i.key.Public().(ed25519.PublicKey))
	return map[string][]jwk{"keys": {{"OKP", "Ed25519", x, i.kid, "EdDSA", "sig"}}}
}

// cursorKey is the key of the cursors that clients hold: made from the other, so that it outlives
// a restart too.
func (i *issuer) cursorKey() []byte {
	sum := sha256.Sum256(append([]byte("parley cursors "), i.key.Seed()...))
	return sum[:]
}
