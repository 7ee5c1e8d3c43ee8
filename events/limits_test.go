package events_test

import (
	"strings"
	"testing"

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
		[]string{"a", "Z", "0", "...", ".a", "_", "-", "ada.Lovelace_1815-", repeat("a", 64)},
		[]string{".", "..", "", repeat("a", 65), "a b", "a/b", "a#b", "é", "a\x00", "a\n", "\u212a", "a\xff"},
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
			"e" + repeat("\u0301", 15),     // 31 bytes
			":+1:", ":ship-it:", ":a_b2c:", // names
			":" + repeat("a", 30) + ":", // 32 bytes
		},
		[]string{
			"", " ", "\u00a0", "\u3000", "\n", "\r\n", "\x00", "\u200b", "\u200d", "\ufe0f", "\u0301", "\u3164", "\ue000",
			"ab", "👍👍", "🇩🇪🇫🇷", "👍 ", "👍\n", "\xff", "👍\xff",
			"::", ":a", "a:", ":A:", ":a b:", ":é:", ":a::b:", ":a:b",
			":" + repeat("a", 31) + ":", // 33 bytes
			"👍" + repeat("\u0301", 15),  // 34 bytes
			"e" + repeat("\u0301", 16),  // 33 bytes
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

// Every payload names the field that is wrong.
func TestPayloadsNameTheWrongField(t *testing.T) {
	var (
		zero      events.ID
		id        = fixedID("ada", 1)
		bad, good = "", "Mission control"
		long      = repeat("a", 501)
		no        = false
	)
	for _, c := range []struct {
		field   string
		payload events.Payload
	}{
		{"", events.RoomCreated{Name: good}},
		{"name", events.RoomCreated{}},
		{"topic", events.RoomCreated{Name: good, Topic: long}},
		{"", events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"grace", "ada"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "ada"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "alan", "grace"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"", "ada"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "é"}}},
		{"direct", events.RoomCreated{Direct: []string{"ada", "grace"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}, Name: good}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}, Topic: good}},
		{"name", events.RoomUpdated{}},
		{"name", events.RoomUpdated{Name: &bad}},
		{"topic", events.RoomUpdated{Name: &good, Topic: &long}},
		{"", events.RoomUpdated{Topic: &bad}},
		{"", events.RoomUpdated{Private: &no}},
		{"user", events.MemberJoined{Role: events.RoleMember}},
		{"role", events.MemberJoined{User: "ada"}},
		{"user", events.MemberLeft{}},
		{"user", events.MemberRoleChanged{Role: events.RoleMember}},
		{"role", events.MemberRoleChanged{User: "ada", Role: "Owner"}},
		{"user", events.MemberBanned{User: "a/b"}},
		{"user", events.MemberUnbanned{User: "a b"}},
		{"text", events.MessagePosted{}},
		{"reply_to", events.MessagePosted{Text: events.Plain("a"), ReplyTo: &zero}},
		{"thread", events.MessagePosted{Text: events.Plain("a"), ReplyTo: &id, Thread: &zero}},
		{"message", events.MessageEdited{Text: events.Plain("a")}},
		{"text", events.MessageEdited{Message: id}},
		{"message", events.MessageDeleted{}},
		{"message", events.MessagePinned{}},
		{"message", events.MessageUnpinned{}},
		{"message", events.ReactionAdded{Emoji: "a"}},
		{"emoji", events.ReactionAdded{Message: id}},
		{"message", events.ReactionRemoved{Emoji: "a"}},
		{"emoji", events.ReactionRemoved{Message: id, Emoji: "ab"}},
		{"room", events.RoomRead{UpTo: id}},
		{"up_to", events.RoomRead{Room: id.String()}},
		{"name", events.UserProfileSet{}},
		{"", events.UserProfileSet{Name: events.Plain("Ada")}},
		{"about", events.UserProfileSet{Name: events.Plain("Ada"), About: events.Plain(long)}},
	} {
		err := c.payload.Validate()
		if c.field == "" {
			if err != nil {
				t.Errorf("%T: %v", c.payload, err)
			}
		} else if invalid := events.IsInvalid(err); invalid == nil || invalid.Field != c.field {
			t.Errorf("%T: %v, want an error of field %s", c.payload, err, c.field)
		}
	}
}

func TestRolesAreRanked(t *testing.T) {
	owner, admin, member := events.RoleOwner.Rank(), events.RoleAdmin.Rank(), events.RoleMember.Rank()
	if none := events.Role("").Rank(); !(owner > admin && admin > member && member > none) {
		t.Errorf("ranks are %d, %d, %d, %d", owner, admin, member, none)
	}
}
