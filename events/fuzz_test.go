package events_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"parley/events"
)

func goldenFiles(f *testing.F) []golden {
	f.Helper()
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.json"))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	var all []golden
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		var g golden
		if err := json.Unmarshal(text, &g); err != nil {
			f.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

// What decodes at all is stored again exactly as it was read, except for the case of its id. What
// is readable can be made anew, and comes back from the wire as the same event.
func FuzzDecode(f *testing.F) {
	for _, g := range goldenFiles(f) {
		s := g.Stored
		f.Add(s.Stream, s.ID, s.Type, s.Actor, s.Region, s.Data)
		f.Add(s.Stream, s.ID+".0123456789ABCDEF", s.Type, s.Actor, s.Region, s.Data)
		if e, err := events.Decode(s); err == nil {
			f.Add(s.Stream, e.WithDigest().Ref().String(), s.Type, s.Actor, s.Region, s.Data)
		}
		f.Add(s.Stream, strings.ToLower(s.ID), strings.Split(s.Type, "/")[0], s.Actor, s.Region, strings.ToUpper(s.Data))
	}
	f.Fuzz(func(t *testing.T, stream, id, typ, actor, region, data string) {
		s := events.Stored{Stream: stream, ID: id, Type: typ, Actor: actor, Region: region, Data: data}
		e, err := events.Decode(s)
		if err != nil {
			if events.IsInvalid(err) == nil {
				t.Fatalf("error %v names no field", err)
			}
			return
		}
		s.ID = strings.ToUpper(s.ID)
		if got := events.Encode(e); got != s {
			t.Fatalf("stored again as %+v, was %+v", got, s)
		}
		again, err := events.Decode(s)
		if err != nil || !events.Same(e, again) {
			t.Fatalf("decoded again it differs: %v", err)
		}
		wire, err := e.MarshalJSON()
		if err != nil {
			t.Fatalf("encode for the wire: %v", err)
		}
		if !json.Valid(wire) || !utf8.Valid(wire) {
			t.Fatalf("not JSON on the wire: %q", wire)
		}
		if _, unreadable := e.Payload.(events.Unreadable); unreadable {
			return
		}
		if !utf8.ValidString(data) {
			t.Fatal("readable, although it is not UTF-8")
		}
		made, err := events.New(e.ID, e.Stream, e.Actor, e.Region, e.Payload)
		if err != nil || !events.Same(e, made) {
			t.Fatalf("made anew it differs: %v", err)
		}
		var received events.Event
		if err := json.Unmarshal(wire, &received); err != nil || !events.Same(e, received) {
			t.Fatalf("from the wire it differs: %v", err)
		}
	})
}

// What is taken from the wire is given to the wire again as itself: once more changes nothing.
func FuzzUnmarshalJSON(f *testing.F) {
	for _, g := range goldenFiles(f) {
		f.Add([]byte(g.Wire))
		f.Add(bytes.ReplaceAll(g.Wire, []byte("}"), []byte(`,"more":"\u003c"}`)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var e, again events.Event
		if err := e.UnmarshalJSON(text); err != nil {
			return
		}
		wire, err := e.MarshalJSON()
		if err != nil {
			t.Fatalf("encode for the wire: %v", err)
		}
		if err := again.UnmarshalJSON(wire); err != nil {
			t.Fatalf("decode %s: %v", wire, err)
		}
		if _, unreadable := e.Payload.(events.Unreadable); !unreadable && !events.Same(e, again) {
			t.Fatalf("%+v became %+v", e, again)
		}
		if twice, err := again.MarshalJSON(); err != nil || !bytes.Equal(wire, twice) {
			t.Fatalf("%s became %s: %v", wire, twice, err)
		}
	})
}

var ulidForm = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$`)

func FuzzParseID(f *testing.F) {
	for _, text := range []string{
		"", "01JABCDEFGHJKMNPQRSTVWXYZ0", "01jabcdefghjkmnpqrstvwxyz0", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
		"80000000000000000000000000", "01JABCDEFGHJKMNPQRSTVWXYZU", "!!!!!!!!!!!!!!!!!!!!!!!!!!", "01JABCDEFGHJKMNPQRSTVWXY\u017f",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := events.ParseID("after", text)
		if ok := ulidForm.MatchString(text); ok != (err == nil) {
			t.Fatalf("%q gives %v", text, err)
		}
		if err == nil {
			if id.String() != strings.ToUpper(text) {
				t.Fatalf("%q became %s", text, id)
			}
		} else if invalid := events.IsInvalid(err); invalid == nil || invalid.Field != "after" {
			t.Fatalf("error %v does not name the field", err)
		}
	})
}

var (
	userForm   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,120}$`)
	escaped    = regexp.MustCompile(`^([A-Za-z0-9._-]|~[0-9A-F]{2}){1,120}$`)
	regionForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	roomForm   = regexp.MustCompile(`^(direct-)?[0-7][0-9A-HJKMNP-TV-Z]{25}$`)
	emojiForm  = regexp.MustCompile(`^:[a-z0-9_+-]{1,62}:$`)
)

// Each validator agrees with what the API's documentation says, in other words.
func FuzzValidate(f *testing.F) {
	for _, l := range limits {
		for _, text := range append(l.allowed, l.refused...) {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		valid, runes := utf8.ValidString(text), []rune(text)
		oneLine := valid && !strings.ContainsAny(text, "\n\r\v\f\x00\x1b\x7f\u0085\u2028\u2029")
		user := userForm.MatchString(text) && text != "." && text != ".."
		for _, c := range []struct {
			field     string
			must, may bool // be taken
		}{
			{"text", valid && len(text) >= 1 && len(text) <= 20_000, valid && len(text) >= 1 && len(text) <= 20_000},
			{"name", user && len(text) <= 100, oneLine && len(runes) <= 100 && strings.TrimSpace(text) != ""},
			{"topic", text == "" || userForm.MatchString(text), oneLine && len(runes) <= 500},
			{"user", user, escaped.MatchString(text) && text != "." && text != ".."},
			{"region", regionForm.MatchString(text), regionForm.MatchString(text)},
			{"room", roomForm.MatchString(text), roomForm.MatchString(text)},
			{"emoji", emojiForm.MatchString(text), oneLine && text != "" && len(text) <= 64 && text == strings.TrimSpace(text)},
		} {
			err := limits[c.field].validate(c.field, text)
			if c.must && err != nil {
				t.Errorf("%s %q is refused: %v", c.field, text, err)
			}
			if !c.may && err == nil {
				t.Errorf("%s %q is taken", c.field, text)
			}
			if err != nil && events.IsInvalid(err) == nil {
				t.Errorf("%s %q: error %v names no field", c.field, text, err)
			}
		}
	})
}
