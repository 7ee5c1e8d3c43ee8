package events

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// noted is a payload that has changed twice: version 1 was {"note"}, version 2 renamed the
// field to "text", version 3 gave it a number of stars, three to those that had none.
type noted struct {
	Text  Content `json:"text"`
	Stars int     `json:"stars"`
}

func (p noted) Validate() error { return ValidateText("text", p.Text.Text()) }

var errCursed = errors.New("the note is cursed")

func notedTable() *table {
	return newTable(define[noted]("test.noted", KindRoom, upgrade(renameNote), upgrade(addStars)))
}

func renameNote(data json.RawMessage) (json.RawMessage, error) {
	var v1 struct{ Note string }
	if err := json.Unmarshal(data, &v1); err != nil {
		return nil, err
	}
	if v1.Note == "cursed" {
		return nil, errCursed
	}
	return json.Marshal(map[string]any{"text": v1.Note})
}

func addStars(data json.RawMessage) (json.RawMessage, error) {
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	fields["stars"] = 3
	return json.Marshal(fields)
}

const (
	testRoom = "01JABCDEFGHJKMNPQRSTVWXYZ0"
	testID   = "01JABCDEFGHJKMNPQRSTVWXYZ1"
	otherID  = "01JABCDEFGHJKMNPQRSTVWXYZ2"
)

func stored(typ, data string) Stored {
	return Stored{Stream: "room/" + testRoom, ID: testID, Type: typ, Actor: "ada", Region: "eu", Data: data}
}

func decodeWith(t *testing.T, table *table, s Stored) Event {
	t.Helper()
	e, err := table.decode(s)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return e
}

func TestOldVersionsAreBroughtUpToDate(t *testing.T) {
	table := notedTable()
	v3 := decodeWith(t, table, stored("test.noted/3", `{"text":"tea < milk","stars":3}`))
	for typ, data := range map[string]string{
		"test.noted/1": `{"note":"tea < milk"}`,
		"test.noted/2": `{"text":"tea < milk"}`,
	} {
		s := stored(typ, data)
		e := decodeWith(t, table, s)
		if want := (noted{Text: Plain("tea < milk"), Stars: 3}); e.Payload != want {
			t.Errorf("%s is read as %#v, want %#v", typ, e.Payload, want)
		}
		if got := joinType(e.Type, e.Version); got != typ {
			t.Errorf("%s became %s", typ, got)
		}
		if got := Encode(e); got != s {
			t.Errorf("stored again as %+v, was %+v", got, s)
		}
		if !Same(e, v3) || !Same(v3, e) {
			t.Errorf("%s is not the same as its newest version", typ)
		}
		e.Region = "us"
		if !Same(e, v3) {
			t.Errorf("%s is another event in another region", typ)
		}
	}
	more := decodeWith(t, table, stored("test.noted/3", `{"text":"tea < milk","stars":4}`))
	if old := decodeWith(t, table, stored("test.noted/2", `{"text":"tea < milk"}`)); Same(old, more) {
		t.Error("two and three are the same although the stars differ")
	}
}

// Whatever cannot be read is kept byte for byte, can be copied to another log, and says why
// without quoting what the user wrote.
func TestUnreadableIsKept(t *testing.T) {
	const secret = "s3cret"
	for name, s := range map[string]Stored{
		"failing step":        stored("test.noted/1", `{"note":"cursed"}`),
		"step on damage":      stored("test.noted/2", `{"text":"s3cret`),
		"too new":             stored("test.noted/4", `{"text":"s3cret","stars":3}`),
		"unknown type":        stored("test.s3cret/1", `{"text":"s3cret","stars":3}`),
		"no version":          stored("test.noted", `{"text":"s3cret","stars":3}`),
		"no type":             stored("", `{"text":"s3cret","stars":3}`),
		"version only":        stored("/3", `{"text":"s3cret","stars":3}`),
		"version 0":           stored("test.noted/0", `{"text":"s3cret","stars":3}`),
		"version -1":          stored("test.noted/-1", `{"text":"s3cret","stars":3}`),
		"version +3":          stored("test.noted/+3", `{"text":"s3cret","stars":3}`),
		"version 03":          stored("test.noted/03", `{"text":"s3cret","stars":3}`),
		"version of 30 bytes": stored("test.noted/"+strings.Repeat("3", 30), `{"text":"s3cret","stars":3}`),
		"two versions":        stored("test.noted/3/3", `{"text":"s3cret","stars":3}`),
		"no data":             stored("test.noted/3", ``),
		"null":                stored("test.noted/3", `null`),
		"array":               stored("test.noted/3", `["s3cret"]`),
		"string":              stored("test.noted/3", `"s3cret"`),
		"damaged":             stored("test.noted/3", `{"text":"s3cret","stars":s3cret}`),
		"trailing":            stored("test.noted/3", `{"text":"s3cret","stars":3} s3cret`),
		"wrong type":          stored("test.noted/3", `{"text":"s3cret","stars":"s3cret"}`),
		"wrong number":        stored("test.noted/3", `{"text":"a","stars":2.71828}`),
		"unknown field":       stored("test.noted/3", `{"text":"s3cret","stars":3,"s3cret":1}`),
		"other case":          stored("test.noted/3", `{"TEXT":"s3cret","stars":3}`),
		"missing field":       stored("test.noted/3", `{"text":"s3cret"}`),
		"not UTF-8":           stored("test.noted/3", "{\"text\":\"s3cret\xff\",\"stars\":3}"),
		"empty text":          stored("test.noted/3", `{"text":"","stars":3}`),
		"too long":            stored("test.noted/3", `{"text":"`+strings.Repeat("s3cret", 5_000)+`","stars":3}`),
		"bad actor":           with(stored("test.noted/3", `{"text":"a","stars":3}`), func(s *Stored) { s.Actor = "s3cret/s3cret" }),
		"bad region":          with(stored("test.noted/3", `{"text":"a","stars":3}`), func(s *Stored) { s.Region = "S3cret s3cret" }),
		"other kind":          with(stored("test.noted/3", `{"text":"a","stars":3}`), func(s *Stored) { s.Stream = "user/ada" }),
	} {
		t.Run(name, func(t *testing.T) {
			e := decodeWith(t, notedTable(), s)
			u, ok := e.Payload.(Unreadable)
			if !ok {
				t.Fatalf("read as %#v", e.Payload)
			}
			if u.Err == nil || u.Validate() == nil {
				t.Error("does not say why")
			} else if text := u.Err.Error(); strings.Contains(text, secret) || strings.Contains(text, "2.71828") {
				t.Errorf("quotes the user: %v", u.Err)
			}
			if string(e.Data) != s.Data {
				t.Errorf("data became %q, was %q", e.Data, s.Data)
			}
			if got := Encode(e); got != s {
				t.Errorf("stored again as %+v, was %+v", got, s)
			}
			if !Same(e, e) {
				t.Error("not the same as itself")
			}
			if _, err := New(e.ID, e.Stream, e.Actor, e.Region, e.Payload); err == nil {
				t.Error("was made into a new event")
			}
		})
	}
}

func with(s Stored, change func(*Stored)) Stored {
	change(&s)
	return s
}

// A spelling of the same JSON is no reason to refuse an event.
func TestSpellingDoesNotMatter(t *testing.T) {
	want := decodeWith(t, notedTable(), stored("test.noted/3", `{"text":"a<é","stars":3}`))
	for _, data := range []string{
		`{"stars":3,"text":"a<é"}`,
		" {\n\"text\" : \"a\\u003c\\u00e9\" , \"stars\" : 3 } ",
	} {
		e := decodeWith(t, notedTable(), stored("test.noted/3", data))
		if e.Payload != want.Payload {
			t.Errorf("%s is read as %#v", data, e.Payload)
		}
		if !Same(e, want) {
			t.Errorf("%s is not the same event", data)
		}
		if string(e.Data) != data {
			t.Errorf("data became %s, was %s", e.Data, data)
		}
	}
}

func TestDamagedEnvelopeIsAnError(t *testing.T) {
	good := stored("room.archived/1", `{}`)
	if e := decodeWith(t, types, good); !e.readable() {
		t.Fatal(e.Payload)
	}
	for name, s := range map[string]Stored{
		"id":           with(good, func(s *Stored) { s.ID = "s3cret" }),
		"letter of id": with(good, func(s *Stored) { s.ID = testID[:25] + "U" }),
		"no stream":    with(good, func(s *Stored) { s.Stream = "" }),
		"no kind":      with(good, func(s *Stored) { s.Stream = testRoom }),
		"kind":         with(good, func(s *Stored) { s.Stream = "s3cret/" + testRoom }),
		"room":         with(good, func(s *Stored) { s.Stream = "room/s3cret" }),
		"user":         with(good, func(s *Stored) { s.Stream = "user/" }),
		"region":       with(good, func(s *Stored) { s.Stream = "region/EU" }),
	} {
		_, err := Decode(s)
		if IsInvalid(err) == nil {
			t.Errorf("%s: error %v is no InvalidError", name, err)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error quotes the input: %v", name, err)
		}
	}
	zero := decodeWith(t, types, with(good, func(s *Stored) { s.ID = strings.Repeat("0", 26) }))
	if zero.readable() {
		t.Error("an event with the zero id is readable")
	}
	lower := decodeWith(t, types, with(good, func(s *Stored) { s.ID = strings.ToLower(testID) }))
	if got := Encode(lower); got != good {
		t.Errorf("a lower case id is stored as %+v", got)
	}
}

func TestTableRefusesDoubles(t *testing.T) {
	for name, rows := range map[string][]*eventType{
		"name":    {define[noted]("a.b", KindRoom), define[RoomArchived]("a.b", KindRoom)},
		"payload": {define[noted]("a.b", KindRoom), define[noted]("a.c", KindRoom)},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("the same %s twice was taken", name)
				}
			}()
			newTable(rows...)
		}()
	}
	names := Types()
	names[0] = "changed"
	if Types()[0] == "changed" {
		t.Error("Types hands out the table itself")
	}
}
