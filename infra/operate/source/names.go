package source

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"

	"parley/events"
)

// UserOf returns the user id for a name of the source's: the name itself where it is one, else what
// is left of it and a hash of all of it, so that no two names become one user. It is "" for "".
func UserOf(name string) string {
	if name == "" || events.ValidateUser("author", name) == nil {
		return name
	}
	var b strings.Builder
	for _, r := range name {
		switch {
		case b.Len() >= events.MaxUserChars-hashChars-1:
		case r < unicode.MaxASCII && events.ValidateUser("author", "a"+string(r)) == nil:
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	sum := sha256.Sum256([]byte(name))
	return strings.Trim(b.String(), "-.") + "-" + hex.EncodeToString(sum[:hashChars/2])
}

const hashChars = 12

// roomName returns a name a room may have for one of the source's, "" if nothing is left of it.
func roomName(name string) string { return oneLine(name, events.MaxNameChars) }

// oneLine cuts a text to what may stand on one line.
func oneLine(text string, chars int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if runes := []rune(text); len(runes) > chars {
		text = string(runes[:chars-1]) + "…"
	}
	return text
}
