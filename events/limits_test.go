package events_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
)

// A limit says which texts of a field are allowed and which are not.
type limit struct {
	validate func(field, text string) error
	allowed  []string
	refused  []string
}

func repeat(s string, n int) string { return strings.Repeat(s, n) }

var limits = map[string]limit{
	"text": {
		events.ValidateText,
		[]string{"a", " ", "\n", "\x00", repeat("a", 20_000), repeat("é", 10_000), repeat("👍", 5_000), "\ufffd"},
		[]string{"", repeat("a", 20_001), repeat("é", 10_000) + "a", "a\xff", "\xed\xa0\x80"},
	},
	"name": {
		events.ValidateName,
		[]string{"a", repeat("a", 100), repeat("é", 100), repeat("👍", 100), " a ", "a\u200d", "e\u0301"},
		[]string{
			"", " ", "\u00a0\u3000", "\u200b", "\u0301", "\u3164", repeat("a", 101), repeat("👍", 101),
			"a\nb", "a\x00", "a\x7f", "a\u0085", "a\u2028", "a\u2029", "a\xff",
		},
	},
	"topic": {
		events.ValidateTopic,
		[]string{"", " ", repeat("é", 500)},
		[]string{repeat("a", 501), "a\nb", "\x00", "a\xff"},
	},
	"user": {
		events.ValidateUser,
		[]string{"a", "Z", "0", "...", ".a", "_", "-", "ada.Lovelace_1815-", repeat("a", 120), "auth0~7C5f7c8ec7", "~7E", "~2E", "~2E~2E", "~C3~A9"},
		[]string{
			".", "..", "", repeat("a", 121), repeat("a", 118) + "~7C", "a b", "a/b", "a#b", "é", "a\x00", "a\n", "\u212a", "a\xff",
			"~", "a~7", "a~7c", "a~41", "~2Ea", "~2E~2Ea", "~C3", "a~~7C", "a~7C|", "a%7C",
		},
	},
	"region": {
		events.ValidateRegion,
		[]string{"a", "eu-central-1", repeat("a", 32)},
		[]string{"", repeat("a", 33), "EU", "eu.1", "eu_1", "eu/1", "é", "a\x00", "\u017f"},
	},
	"room": {
		events.ValidateRoomID,
		[]string{
			"01JABCDEFGHJKMNPQRSTVWXYZ0", "00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
			"direct-01JABCDEFGHJKMNPQRSTVWXYZ0", events.DirectRoom("ada", "grace"),
		},
		[]string{
			"", "direct-", "general", "01jabcdefghjkmnpqrstvwxyz0", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
			"01JABCDEFGHJKMNPQRSTVWXYZ", "01JABCDEFGHJKMNPQRSTVWXYZ00", "01JABCDEFGHJKMNPQRSTVWXYZU",
			"01JABCDEFGHJKMNPQRSTVWXYZ0#1", "01JABCDEFGHJKMNPQRSTVWXYZ0\x00", "!!!!!!!!!!!!!!!!!!!!!!!!!!",
			"DIRECT-01JABCDEFGHJKMNPQRSTVWXYZ0", "direct-01jabcdefghjkmnpqrstvwxyz0",
			"direct-direct-01JABCDEFGHJKMNPQRSTVWXYZ0",
		},
	},
	"emoji": {
		events.ValidateEmoji,
		[]string{
			"👍", "👍🏽", "❤️", "🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣", "a", ":", "é", "e\u0301",
			"👩‍👩‍👧‍👦",                      // 25 bytes
			"🫩",                            // of Unicode 16, which Go 1.26 does not know
			"e" + repeat("\u0301", 31),     // 63 bytes
			":+1:", ":ship-it:", ":a_b2c:", // names
			":" + repeat("a", 62) + ":", // 64 bytes
		},
		[]string{
			"", " ", "\u00a0", "\u3000", "\n", "\r\n", "\x00", "\u200b", "\u200d", "\ufe0f", "\u0301", "\u3164", "\ue000",
			"ab", "👍👍", "🇩🇪🇫🇷", "👍 ", "👍\n", "\xff", "👍\xff",
			"::", ":a", "a:", ":A:", ":a b:", ":é:", ":a::b:", ":a:b",
			":" + repeat("a", 63) + ":", // 65 bytes
			"👍" + repeat("\u0301", 31),  // 66 bytes
			"e" + repeat("\u0301", 32),  // 65 bytes
		},
	},
}

func TestLimits(t *testing.T) {
	for field, l := range limits {
		for _, text := range l.allowed {
			if err := l.validate(field, text); err != nil {
				t.Errorf("%s %.40q (%d bytes) is refused: %v", field, text, len(text), err)
			}
		}
		for _, text := range l.refused {
			err := l.validate(field, text)
			if invalid := events.IsInvalid(err); invalid == nil {
				t.Errorf("%s %.40q (%d bytes) gives %v, want an InvalidError", field, text, len(text), err)
			} else if invalid.Field != field || invalid.Reason == "" {
				t.Errorf("%s %.40q: error names field %q, reason %q", field, text, invalid.Field, invalid.Reason)
			}
		}
	}
}

// What a user writes shows something, in any script.
func TestValidateShown(t *testing.T) {
	for _, text := range []string{
		"a", " a ", "\u200ba", "é", "e\u0301", "不", "👍", "❤️", "🇩🇪", ".", "\u2801", "\ufffd", "\ufffc", "🫩", "مرحبا", "ก็", "\x00!", "\n#",
	} {
		if err := events.ValidateShown("text", text); err != nil {
			t.Errorf("%+q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", " ", "   ", "\n\n", "\t\r\n", "\u00a0", "\u3000", "\u2028", "\x00", "\x1b", "\u200b", "\u200b\u200d\ufeff", "\u2060", "\u00ad",
		"\u2800", "\u2800 \u2800", "\u3164", "\u115f", "\uffa0", "\u180e", "\ufe0f", "\U000e0020", "\u0301", "\U0001d159", "\U00013441", "\u202e",
	} {
		if invalid := events.IsInvalid(events.ValidateShown("text", text)); invalid == nil || invalid.Field != "text" {
			t.Errorf("%+q is accepted", text)
		}
	}
}

func TestRolesAreRanked(t *testing.T) {
	owner, admin, member := events.RoleOwner.Rank(), events.RoleAdmin.Rank(), events.RoleMember.Rank()
	if none := events.Role("").Rank(); !(owner > admin && admin > member && member > none) {
		t.Errorf("ranks are %d, %d, %d, %d", owner, admin, member, none)
	}
}

// A subject of any identity provider is one user and no other.
func TestEscapeUser(t *testing.T) {
	for subject, user := range map[string]string{
		"ada": "ada", "Ada_1815-x.y": "Ada_1815-x.y", "...": "...",
		"auth0|5f7c8ec7c33c6c004bbafe82": "auth0~7C5f7c8ec7c33c6c004bbafe82",
		"ada@example.com":                "ada~40example.com",
		"https://id.example/ada?x=1":     "https~3A~2F~2Fid.example~2Fada~3Fx~3D1",
		"a b":                            "a~20b",
		"~7C":                            "~7E7C",
		"é":                              "~C3~A9",
		".":                              "~2E",
		"..":                             "~2E~2E",
	} {
		if got := events.EscapeUser(subject); got != user {
			t.Errorf("%q becomes %q, want %q", subject, got, user)
		}
		if err := events.ValidateUser("user", user); err != nil {
			t.Error(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		subject := rapid.OneOf(rapid.StringN(1, -1, 40), rapid.StringMatching(`[~.|7CE]{1,8}`)).Draw(t, "subject")
		user := events.EscapeUser(subject)
		if back := events.UnescapeUser(user); back != subject {
			t.Fatalf("%q becomes %q, and that %q", subject, user, back)
		}
		if err := events.ValidateUser("user", user); err != nil {
			t.Fatalf("%q becomes %q: %v", subject, user, err)
		}
		id := rapid.StringMatching(`[a.~27CE]{1,8}`).Draw(t, "id")
		if err := events.ValidateUser("user", id); err == nil && events.EscapeUser(events.UnescapeUser(id)) != id {
			t.Fatalf("%q is valid, and the id of no subject", id)
		}
	})
}
