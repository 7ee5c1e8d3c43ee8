package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// algorithms are those of accepted signatures: with a shared secret, everybody who can verify a token
// could also make one.
var algorithms = []string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

// token is a JWT (RFC 7519) that has not been verified.
type token struct {
	claims
	method    jwt.SigningMethod
	kid       string // "" if it names no key
	signed    string // what is signed
	signature []byte
}

// claims are those that are read from a token. A time is zero if it is missing.
type claims struct {
	issuer, subject string
	audience        []string
	scopes          []string
	expires         time.Time
	notBefore       time.Time
	issued          time.Time
}

// readToken reads a token. It is stricter than common decoders: each token has one spelling, and
// each claim one value that all readers of the token see.
func readToken(text string) (t token, err error) {
	parts := strings.Split(text, ".")
	if len(text) > maxToken || len(parts) != 3 {
		return t, errors.New("it is not a signed JWT of at most 16 KiB")
	}
	var decoded [3][]byte
	for i, part := range parts {
		// The decoder passes over line breaks.
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return t, errors.New("it is not in base64url")
		}
	}
	header, err := readObject(decoded[0])
	if err != nil {
		return t, errors.New("its header " + err.Error())
	}
	if header["crit"] != nil {
		return t, errors.New("its header has crit, which names extensions that are not understood here")
	}
	algorithm, ok := header.text("alg")
	if !ok || !slices.Contains(algorithms, algorithm) {
		return t, errors.New("its alg is not one of " + strings.Join(algorithms, ", "))
	}
	if t.kid, ok = header.text("kid"); !ok {
		return t, errors.New("its kid is not a string")
	}
	payload, err := readObject(decoded[1])
	if err != nil {
		return t, errors.New("its payload " + err.Error())
	}
	t.method, t.signature, t.signed = jwt.GetSigningMethod(algorithm), decoded[2], parts[0]+"."+parts[1]
	t.claims, err = readClaims(payload)
	return t, err
}

// object is a JSON object, by the exact names of its fields. Those that are null are left out.
type object map[string]json.RawMessage

// readObject reads a JSON object whose fields have different names.
func readObject(data []byte) (object, error) {
	if !utf8.Valid(data) || loneSurrogate(data) || !json.Valid(data) {
		return nil, errors.New("is not JSON in UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	seen, fields := map[string]bool{}, object{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := key.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, errors.New("has two fields of one name")
		}
		if seen[name] = true; value[0] != 'n' {
			fields[name] = value
		}
	}
	return fields, nil
}

// text returns a string, "" if it is missing.
func (o object) text(name string) (text string, ok bool) {
	return text, o[name] == nil || json.Unmarshal(o[name], &text) == nil
}

// texts returns a string, or a list of them, as a list.
func (o object) texts(name string) (texts []string, ok bool) {
	if text, ok := o.text(name); ok && o[name] != nil {
		return []string{text}, true
	}
	if o[name] != nil && json.Unmarshal(o[name], &texts) != nil {
		return nil, false
	}
	return texts, true
}

// time returns a NumericDate: seconds, perhaps with a fraction. Beyond a year that its nanoseconds
// fit into it is that year.
func (o object) time(name string) (at time.Time, ok bool) {
	if o[name] == nil {
		return at, true
	}
	const farthest = 1 << 33 // the year 2242
	seconds, err := strconv.ParseFloat(string(o[name]), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // a string, say
		return at, false
	}
	return time.UnixMilli(int64(1000 * min(max(seconds, 0), farthest))), true
}

func readClaims(o object) (c claims, err error) {
	for name, field := range map[string]*time.Time{"exp": &c.expires, "nbf": &c.notBefore, "iat": &c.issued} {
		var ok bool
		if *field, ok = o.time(name); !ok {
			return c, errors.New("its claim " + name + " is not a number")
		}
	}
	for name, field := range map[string]*string{"iss": &c.issuer, "sub": &c.subject} {
		var ok bool
		if *field, ok = o.text(name); !ok {
			return c, errors.New("its claim " + name + " is not a string")
		}
	}
	var ok bool
	if c.audience, ok = o.texts("aud"); !ok {
		return c, errors.New("its claim aud is neither a string nor a list of strings")
	}
	for _, name := range []string{"scope", "scp"} { // the form varies; what is not understood gives no right
		texts, _ := o.texts(name)
		c.scopes = append(c.scopes, strings.Fields(strings.Join(texts, " "))...)
	}
	return c, nil
}
