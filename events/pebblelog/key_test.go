package pebblelog

import (
	"bytes"
	"reflect"
	"testing"

	"parley/events"
)

func FuzzEntry(f *testing.F) {
	f.Add(int64(-1), uint64(7), "message.posted", uint16(1), "ada", "here", "{}")
	f.Add(int64(0), uint64(0), "", uint16(0), "", "", "")
	f.Fuzz(func(t *testing.T, at int64, position uint64, typ string, version uint16, actor, region, data string) {
		event := events.Event{Type: typ, Version: int(version), Actor: actor, Region: region, Data: []byte(data)}
		value := encodeEntry(at, event)
		setPosition(value, position)
		e, err := splitEntry(value)
		if err != nil {
			t.Fatal(err)
		}
		if e.at != at || e.position != position || string(e.typ) != events.Encode(event).Type ||
			string(e.actor) != actor || string(e.region) != region || string(e.data) != data {
			t.Errorf("entry is %+v", e)
		}
		for n := range headSize {
			if _, err := splitEntry(value[:n]); err == nil {
				t.Errorf("%d bytes are an entry", n)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	id := events.ID{15: 1}
	key := eventKey(events.Key{Stream: "user/ada", ID: id, Digest: events.Digest{9: 1}})
	value := encodeEntry(1, events.Event{Type: "user.profile_set", Version: 1, Actor: "ada", Region: "here", Data: []byte("{}")})
	f.Add(value)
	f.Add(append(value[:headSize:headSize], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, value []byte) {
		event, e, err := decode(key, value)
		if err != nil || event.Ref() != (events.Ref{ID: id, Digest: events.Digest{9: 1}}) || event.Stream != "user/ada" {
			t.Fatalf("event is %+v, error %v", event, err)
		}
		if _, err := splitEntry(value); err != nil {
			if !bytes.Equal(event.Data, value) {
				t.Error("the bytes of a damaged entry are lost")
			}
			return
		}
		again := encodeEntry(e.at, event)
		setPosition(again, e.position)
		if o, err := splitEntry(again); err != nil || !reflect.DeepEqual(o, e) {
			t.Errorf("%+v became %+v, error %v", e, o, err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	id := events.ID{0: 1, 15: 2}
	old := eventKey(events.Key{Stream: "room/x", ID: id})
	whole := eventKey(events.Key{Stream: "room/x", ID: id, Digest: events.Digest{9: 1}})
	f.Add(old)
	f.Add(whole)
	f.Add(append(old, make([]byte, digestSize)...))
	f.Add(positionKey(1 << 40))
	f.Add(appendArrival(nil, old, true))
	f.Add(appendArrival(nil, whole, false))
	f.Add([]byte("e\x00"))
	f.Fuzz(func(t *testing.T, key []byte) {
		if k, ok := splitEventKey(key); ok {
			if !bytes.Equal(eventKey(k), key) {
				t.Error("event key changed")
			}
			lower, upper := bounds(k.Stream, events.Range{})
			if bytes.Compare(key, lower) < 0 || bytes.Compare(key, upper) >= 0 {
				t.Error("event key lies outside its stream")
			}
		}
		if position, ok := splitPositionKey(key); ok && !bytes.Equal(positionKey(position), key) {
			t.Error("position key changed")
		}
		if event, replica, ok := splitArrival(key); ok && !bytes.Equal(appendArrival(nil, event, replica), key) {
			t.Error("arrival changed")
		}
	})
}

func FuzzBounds(f *testing.F) {
	f.Add("user/a", "user/ada", []byte("0123456789abcdef"), []byte("0123456789abcdeg"), []byte("0123456789"))
	f.Add("user/a", "user/a", []byte("0123456789abcdef"), []byte("0123456789abcdef"), bytes.Repeat([]byte{0xff}, digestSize))
	f.Fuzz(func(t *testing.T, a, b string, x, y, digest []byte) {
		one, other := events.Stream(a), events.Stream(b)
		if one.Validate() != nil || other.Validate() != nil || len(x) != idSize || len(y) != idSize || len(digest) != digestSize {
			return
		}
		idX, idY, digestX := events.ID(x), events.ID(y), events.Digest(digest)
		within := func(key []byte, r events.Range) bool {
			lower, upper := bounds(one, r)
			return bytes.Compare(lower, key) <= 0 && bytes.Compare(key, upper) < 0
		}
		if got := within(eventKey(events.Key{Stream: other, ID: idX, Digest: digestX}), events.Range{}); got != (a == b) {
			t.Errorf("event of one stream in the other is %v", got)
		}
		if got := within(eventKey(events.Key{Stream: one, ID: idX, Digest: digestX}), events.Range{After: idY}); got != (idX.Compare(idY) > 0) {
			t.Errorf("after is %v", got)
		}
		if got := within(eventKey(events.Key{Stream: one, ID: idX, Digest: digestX}), events.Range{Before: idY}); idY != (events.ID{}) && got != (idX.Compare(idY) < 0) {
			t.Errorf("before is %v", got)
		}
	})
}
