package events

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
)

// Content is personal content: the text of a message, what a profile says. It is stored in one of
// three forms:
//   - plain: text, as a client gives it and a reader gets it; see [Plain].
//   - sealed: what the log, folds, views and the feed hold and never look into; see [Sealed]. The
//     package keys seals it under a key of its owner and opens it, at the edges only: where a
//     command comes in, and where a query, the bus or a socket gives something out.
//   - erased: nothing; see [Erased].
//
// The edges give out two more forms, which like an erased one hold nothing: [Deleted] and
// [Unopened].
//
// The owner of an event's content is the event's actor. In JSON it is a text, {"sealed":"…"}, or
// null. The zero Content is the empty plain text.
type Content struct {
	text string // of a sealed one its bytes
	form form
}

type form uint8

const (
	plain form = iota
	sealed
	erased
	deleted
	unopened
)

// Plain is content that anybody can read.
func Plain(text string) Content { return Content{text: text} }

// Sealed is content that was made unreadable, as the bytes that it became.
func Sealed(bytes []byte) Content { return Content{string(bytes), sealed} }

// Erased is what is left of sealed content once its owner was erased.
func Erased() Content { return Content{form: erased} }

// Deleted is what is shown of the content of a message that was deleted.
func Deleted() Content { return Content{form: deleted} }

// Unopened is what is shown of sealed content that cannot be opened: its key is not in this region
// yet, or the key or the content is damaged.
func Unopened() Content { return Content{form: unopened} }

// Text is the text of plain content, "" of any other.
func (c Content) Text() string {
	if c.form != plain {
		return ""
	}
	return c.text
}

// Sealed returns the bytes of sealed content, in a string.
func (c Content) Sealed() (bytes string, is bool) {
	if c.form != sealed {
		return "", false
	}
	return c.text, true
}

// Erased reports whether nothing is left.
func (c Content) Erased() bool { return c.form == erased }

// Unopened reports whether the content is [Unopened].
func (c Content) Unopened() bool { return c.form == unopened }

// Equal reports whether two contents are the same, in the same form.
func (c Content) Equal(other Content) bool { return c == other }

// IsZero reports whether it is the empty plain text, for omitzero.
func (c Content) IsZero() bool { return c == Content{} }

// maxSealing bounds what sealing adds to a text, in bytes.
const maxSealing = 64

// validate checks plain content by a rule of its field. Of sealed content it can only check the
// length: at most that of the longest text, sealed. The text was checked before it was sealed.
func (c Content) validate(field string, most int, rule func(field, text string) error) error {
	switch {
	case c.form == plain:
		return rule(field, c.text)
	case c.form == sealed && len(c.text) > most+maxSealing:
		return Invalid(field, "must not be longer, sealed, than the longest text")
	default:
		return nil
	}
}

// Sealed content in JSON stands between these, in base64 without padding.
const sealedHead, sealedTail = `{"sealed":"`, `"}`

var (
	base64Text   = base64.RawStdEncoding.Strict()
	errNoContent = errors.New(`content must be a text, {"sealed":"…"} or null`)
)

// MarshalJSON implements [json.Marshaler].
func (c Content) MarshalJSON() ([]byte, error) {
	switch c.form {
	case erased, deleted, unopened:
		return []byte("null"), nil
	case sealed:
		b := make([]byte, 0, len(sealedHead)+base64Text.EncodedLen(len(c.text))+len(sealedTail))
		b = base64Text.AppendEncode(append(b, sealedHead...), []byte(c.text))
		return append(b, sealedTail...), nil
	default:
		return marshal(c.text)
	}
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *Content) UnmarshalJSON(text []byte) error {
	switch {
	case string(text) == "null":
		*c = Erased()
		return nil
	case text[0] == '"':
		*c = Content{}
		return json.Unmarshal(text, &c.text)
	}
	bytes, err := base64Text.DecodeString(inSealed(text))
	if err != nil || len(bytes) == 0 {
		return errNoContent
	}
	*c = Sealed(bytes)
	return nil
}

// inSealed returns the base64 in sealed content, "" if it is none. As MarshalJSON writes it, it
// need not be parsed; on its way it may have been spaced anew.
func inSealed(text []byte) string {
	head, found := strings.CutPrefix(string(text), sealedHead)
	inner, closed := strings.CutSuffix(head, sealedTail)
	if found && closed {
		return inner
	}
	var object struct{ Sealed string }
	if json.Unmarshal(text, &object) != nil {
		return ""
	}
	return object.Sealed
}

// personal is a payload that holds content.
type personal interface {
	Payload
	// with returns the payload with f applied to each of its contents, or the first error.
	with(f func(field string, c Content) (Content, error)) (Payload, error)
}

// Personal reports whether the event's payload is of a kind that holds content.
func (e Event) Personal() bool {
	_, is := e.Payload.(personal)
	return is
}

// WithContent returns the event with f applied to each of its contents, by the field it stands in;
// it is the event itself if it holds none, or f changes none. The error is that of f.
func (e Event) WithContent(f func(field string, c Content) (Content, error)) (Event, error) {
	p, is := e.Payload.(personal)
	if !is {
		return e, nil
	}
	changed := false
	after, err := p.with(func(field string, c Content) (Content, error) {
		now, err := f(field, c)
		changed = changed || now != c
		return now, err
	})
	if err != nil || !changed {
		return e, err
	}
	t, _ := types.of(after)
	data, err := marshal(after)
	if err != nil {
		return e, err
	}
	e.Payload, e.Version, e.Data = after, t.version, data
	return e, nil
}

// Withheld reports whether the event is shown without a content because its message was deleted, or
// because the content cannot be opened.
func (e Event) Withheld() (isDeleted, isUnopened bool) {
	_, _ = e.WithContent(func(_ string, c Content) (Content, error) {
		isDeleted, isUnopened = isDeleted || c.form == deleted, isUnopened || c.form == unopened
		return c, nil
	})
	return isDeleted, isUnopened
}
