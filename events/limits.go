package events

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of what an event may hold. They are part of the API: raising one is harmless,
// lowering one makes stored events unreadable.
const (
	MaxTextBytes  = 20_000 // text of a message, in bytes of UTF-8
	MaxNameChars  = 100    // name of a room or of a user, in code points
	MaxTopicChars = 500    // topic of a room, in code points
	MaxAboutChars = 500    // the about text of a profile, in code points
	MaxUserChars  = 120    // a user id
	MaxEmojiBytes = 64     // a reaction's emoji; the longest that Unicode recommends has 35
	maxRegion     = 32     // a region's name
)

// ValidateText checks the text of a stored message: 1 to [MaxTextBytes] bytes of valid UTF-8. For one that a
// user writes now see also [ValidateShown].
func ValidateText(field, text string) error {
	if len(text) < 1 || len(text) > MaxTextBytes || !utf8.ValidString(text) {
		return Invalid(field, fmt.Sprintf("must have 1 to %d bytes of valid UTF-8", MaxTextBytes))
	}
	return nil
}

// ValidateShown checks that a text or a name which a user writes now shows something: it has a character that is
// neither a space nor a joiner, filler or blank symbol. Of stored ones it is not asked: former releases accepted
// some that show nothing.
func ValidateShown(field, text string) error {
	if !strings.ContainsFunc(text, func(r rune) bool { return visible(r) && !strings.ContainsRune(blankSymbols, r) }) {
		return Invalid(field, "must have at least one visible character: spaces, joiners and fillers show nothing")
	}
	return nil
}

// blankSymbols are letters and symbols to Unicode, and show nothing: an empty pattern of Braille, a note without a
// head, and blanks among hieroglyphs.
const blankSymbols = "\u2800\U0001d159\U00013441\U00013442"

// ValidateName checks the name of a room or user: 1 to [MaxNameChars] characters, none of them
// a control character, at least one of them visible.
func ValidateName(field, name string) error {
	if !strings.ContainsFunc(name, visible) || !line(name, MaxNameChars) {
		return Invalid(field, fmt.Sprintf("must have 1 to %d characters, on one line, not only invisible ones", MaxNameChars))
	}
	return nil
}

// ValidateTopic checks the topic of a room, which may be empty.
func ValidateTopic(field, topic string) error {
	if !line(topic, MaxTopicChars) {
		return Invalid(field, fmt.Sprintf("must have at most %d characters, on one line", MaxTopicChars))
	}
	return nil
}

// line reports whether s has at most limit characters and none that breaks the line.
func line(s string, limit int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= limit && !strings.ContainsFunc(s, breaksLine)
}

func breaksLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// ValidateUser checks a user id: 1 to [MaxUserChars] characters as [EscapeUser] makes them. An id is
// not "." or "..", which no path of a URL can carry.
func ValidateUser(field, user string) error {
	escaped := strings.Contains(user, "~")
	ok := len(user) >= 1 && len(user) <= MaxUserChars &&
		(escaped || !strings.ContainsFunc(user, notUserChar)) && user != "." && user != ".."
	if ok && escaped {
		subject := UnescapeUser(user)
		ok = utf8.ValidString(subject) && EscapeUser(subject) == user
	}
	if !ok {
		return Invalid(field, fmt.Sprintf("must have 1 to %d characters of A-Z a-z 0-9 . _ -, or ~ and the two hex digits of another byte, and not be . or ..", MaxUserChars))
	}
	return nil
}

func notUserChar(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-')
}

// EscapeUser returns the user id for a subject, as an identity provider calls a user: a byte that is
// none of A-Za-z0-9._- becomes ~ and its two hex digits in upper case, so "auth0|5f7c" becomes
// "auth0~7C5f7c". A subject of those characters is its own id, except "." and "..", whose points are
// escaped. Different subjects have different ids; [UnescapeUser] returns the subject.
func EscapeUser(subject string) string {
	if subject == "." || subject == ".." {
		return strings.ReplaceAll(subject, ".", "~2E")
	}
	var b strings.Builder
	for _, c := range []byte(subject) {
		if notUserChar(rune(c)) {
			fmt.Fprintf(&b, "~%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// UnescapeUser undoes [EscapeUser]. Text that EscapeUser does not make gives some other text.
func UnescapeUser(user string) string {
	var b strings.Builder
	for {
		plain, rest, found := strings.Cut(user, "~")
		b.WriteString(plain)
		if !found {
			return b.String()
		}
		digits := rest[:min(2, len(rest))]
		if c, err := strconv.ParseUint(digits, 16, 8); err == nil {
			b.WriteByte(byte(c))
		}
		user = rest[len(digits):]
	}
}

// ValidateRegion checks a region's name, which is also a valid user id: a region is the actor
// of its beats.
func ValidateRegion(field, region string) error {
	if len(region) < 1 || len(region) > maxRegion || strings.ContainsFunc(region, notRegionChar) {
		return Invalid(field, fmt.Sprintf("must have 1 to %d characters of a-z 0-9 -", maxRegion))
	}
	return nil
}

func notRegionChar(r rune) bool {
	return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-')
}

// visible reports whether a character shows something by itself: a space, an accent without a
// letter, a joiner do not. A character that Go does not know yet does: emoji get new ones.
func visible(r rune) bool {
	return !unicode.In(r, unicode.Z, unicode.M, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs,
		unicode.Other_Default_Ignorable_Code_Point)
}
