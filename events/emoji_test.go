package events_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
)

// recommended are emoji as Unicode recommends them for interchange: of each kind of sequence, and the longest.
var recommended = []string{
	"👍", "❤️", "☺️", "☝️", "©️", "™️", "↔️", "⌨️", "㊗️", "🅰️", "🌡️", "🕵️", "🛳️", "⌚", "🫩", "🇩🇪",
	"#️⃣", "*️⃣", "7️⃣",
	"👍🏽", "☝🏽", "✌🏿", "🕵🏻", "⛹🏾",
	"🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
	"👨‍👩‍👧‍👦", "🏳️‍🌈", "🏳️‍⚧️", "🏴‍☠️", "👁️‍🗨️", "❤️‍🔥", "🐻‍❄️", "⛓️‍💥", "🙂‍↔️", "🐦‍🔥",
	"🕵️‍♂️", "🕵🏼‍♀️", "⛹️‍♀️", "⛹🏽‍♂️", "🏌️‍♂️", "🧑🏿‍⚕️", "🏃🏻‍♀️‍➡️", "🧑‍🦼‍➡️", "👩🏽‍❤️‍👨🏻", "🧑🏻‍🤝‍🧑🏿",
	"👩🏽‍❤️‍💋‍👨🏻", "🧑🏾‍❤️‍💋‍🧑🏼", // 35 bytes
}

// However a keyboard sends an emoji, with all, some or none of its variation selectors, it is one, of the form that
// Unicode recommends; and it is accepted.
func TestNormalizeEmoji(t *testing.T) {
	t.Parallel()
	for _, want := range recommended {
		if err := events.ValidateEmoji("emoji", want); err != nil {
			t.Errorf("%s (%d bytes): %v", want, len(want), err)
		}
		parts := strings.Split(want, "\ufe0f")
		for set := range 1 << (len(parts) - 1) {
			form := parts[0]
			for i, part := range parts[1:] {
				if set>>i&1 == 1 {
					form += "\ufe0f"
				}
				form += part
			}
			if got := events.NormalizeEmoji(form); got != want {
				t.Errorf("%+q becomes %+q, want %+q", form, got, want)
			}
		}
	}
	for form, want := range map[string]string{
		"❤\ufe0e": "❤️", "👍\ufe0f": "👍", "☝️🏽": "☝🏽", "#": "#", "7": "7", "7\ufe0f": "7", "a\ufe0f": "a",
		"e\u0301": "é", "e\ufe0f\u0301": "é", ":+1:": ":+1:", ":heart:": ":heart:", "": "",
	} {
		if got := events.NormalizeEmoji(form); got != want {
			t.Errorf("%+q becomes %+q, want %+q", form, got, want)
		}
	}
}

// Normalising again changes nothing, and what is one reaction stays one.
func TestNormalizeEmojiIsStable(t *testing.T) {
	t.Parallel()
	letters := []string{"❤", "👍", "1", "\u20e3", "\ufe0f", "\ufe0e", "\u200d", "🏽", "e", "\u0301", "🇩"}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(letters), 0, 8).Draw(t, "text"), "")
		once := events.NormalizeEmoji(text)
		if again := events.NormalizeEmoji(once); again != once {
			t.Fatalf("%+q becomes %+q, and that %+q", text, once, again)
		}
		if other := events.NormalizeEmoji(strings.ReplaceAll(text, "\ufe0f", "")); other != once {
			t.Fatalf("%+q becomes %+q, without selectors %+q", text, once, other)
		}
	})
}
