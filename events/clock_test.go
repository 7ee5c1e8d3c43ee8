package events

import (
	"cmp"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, time.July, 20, 12, 0, 0, 0, time.UTC)

var marks = NewMarks([]byte("the secret of these tests"))

func clockAt(at time.Time) *Clock { return NewClock(func() time.Time { return at }, marks) }

// idAt is the least or the greatest id of an actor in one millisecond, or one between.
func idAt(at time.Time, actor string, random uint64) ID {
	return makeID(uint64(at.UnixMilli()), marks(actor), random)
}

const maxRandom = 1<<randomBits - 1

// Whatever the time does and whatever the causes are: an id carries the mark of its actor, sorts
// after its causes, is never given twice, and without a cause is greater than the last one, unless the
// time was set back by more than Ahead.
func TestMintProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMilli(rapid.SampledFrom([]int64{-5_000, 0, 1_000, noon.UnixMilli()}).Draw(t, "start"))
		clock := NewClock(func() time.Time { return now }, marks)
		latest := now // the latest time there ever was
		actors := rapid.SampledFrom([]string{"ada", "grace", "alan"})
		anyCause := rapid.Custom(func(t *rapid.T) ID {
			at := now.Add(time.Duration(rapid.Int64Range(-20_000, 10_005).Draw(t, "cause ms")) * time.Millisecond)
			random := rapid.SampledFrom([]uint64{0, 1, maxRandom / 2, maxRandom - 1, maxRandom}).Draw(t, "cause random")
			return makeID(uint64(max(at.UnixMilli(), 0)), marks(actors.Draw(t, "cause actor")), random)
		})
		minted, last := map[ID]bool{}, map[string]ID{}

		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int64{
				0, 0, 0, 1, 1, 2, 999, 1_000, 5_000_000, -1, -2, -1_500, -3_600_000_000,
			}).Draw(t, "µs")) * time.Microsecond)
			latest = later(latest, now)
			if held := later(now, time.UnixMilli(0)); latest.Sub(held) > clock.Ahead-time.Second { // ids may run ahead a little
				latest = held.Add(clock.Ahead)
				clear(last)
			}
			actor := actors.Draw(t, "actor")
			causes := rapid.SliceOfN(anyCause, 0, 3).Draw(t, "causes")
			if len(minted) > 0 && rapid.Bool().Draw(t, "cause minted here") {
				causes = append(causes, rapid.SampledFrom(slices.SortedFunc(maps.Keys(minted), ID.Compare)).Draw(t, "minted"))
			}
			bound := later(latest, time.UnixMilli(0))
			future := false
			for _, cause := range causes {
				future = future || cause.Timestamp().After(now.Add(clock.Ahead))
				bound = later(bound, cause.Timestamp().Add(time.Millisecond))
			}

			id, err := clock.Mint(actor, causes...)
			if future {
				if !errors.Is(err, ErrIDFuture) {
					t.Fatalf("a cause too far ahead: %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("mint: %v", err)
			}
			if !marks.Owns(actor, id) {
				t.Fatalf("%s does not carry the mark of %s", id, actor)
			}
			if minted[id] {
				t.Fatalf("%s was given twice", id)
			}
			minted[id] = true
			for _, cause := range causes {
				if id.Compare(cause) <= 0 {
					t.Fatalf("%s does not sort after its cause %s", id, cause)
				}
			}
			// Few ids: at most one millisecond was full and the next one borrowed.
			if id.Timestamp().After(bound.Add(time.Millisecond)) {
				t.Fatalf("%s lies at %s, want at most %s", id, id.Timestamp(), bound)
			}
			if len(causes) == 0 {
				if id.Compare(last[actor]) <= 0 {
					t.Fatalf("%s does not sort after %s", id, last[actor])
				}
				last[actor] = id
			}
		}
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func TestMillionIDsInOneMillisecond(t *testing.T) {
	clock := clockAt(noon)
	var last ID
	for range 1_000_000 {
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		if id.Compare(last) <= 0 {
			t.Fatalf("%s does not sort after %s", id, last)
		}
		last = id
	}
	if ahead := last.Timestamp().Sub(noon); ahead > 100*time.Millisecond {
		t.Errorf("a million ids of one millisecond reach %s ahead", ahead)
	}
}

func TestMintConcurrently(t *testing.T) {
	const goroutines, each = 8, 5_000
	clock := NewClock(time.Now, marks)
	ids := make([][]ID, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				id, err := clock.Mint("ada")
				if err != nil {
					t.Error(err)
					return
				}
				ids[g] = append(ids[g], id)
			}
		})
	}
	wg.Wait()
	for _, own := range ids {
		if !slices.IsSortedFunc(own, ID.Compare) {
			t.Error("ids of one goroutine do not increase")
		}
	}
	all := slices.SortedFunc(slices.Values(slices.Concat(ids...)), ID.Compare)
	if got := len(slices.Compact(all)); got != goroutines*each {
		t.Errorf("%d different ids, want %d", got, goroutines*each)
	}
}

// Two processes that mint for one user in one millisecond hardly ever meet: if they do, that is a
// conflict, and one of the two mints another id.
func TestClocksDoNotRepeatEachOther(t *testing.T) {
	seen := map[[randomBits / 8]byte]bool{}
	for range 5 {
		clock := clockAt(noon)
		for range 4 { // one run in 100,000 has a pair of equals
			id, err := clock.Mint("ada")
			if err != nil {
				t.Fatal(err)
			}
			low := [randomBits / 8]byte(id[randomAt:])
			if seen[low] {
				t.Fatalf("the random part of %s was seen before", id)
			}
			seen[low] = true
		}
	}
}

// A full millisecond borrows the next, and goes on borrowing until the time has caught up.
func TestFullMillisecond(t *testing.T) {
	now := noon
	clock := NewClock(func() time.Time { return now }, marks)
	clock.ms, clock.random = uint64(noon.UnixMilli()), maxRandom-1
	last := idAt(noon, "ada", maxRandom-1)
	for clock.ms == uint64(noon.UnixMilli()) { // one round; two if the random step was the least
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		if id.Compare(last) <= 0 {
			t.Fatalf("%s does not sort after %s", id, last)
		}
		last = id
	}
	if got := last.Timestamp(); !got.Equal(noon.Add(time.Millisecond)) {
		t.Errorf("borrowed id lies at %s", got)
	}
	for _, step := range []time.Duration{0, time.Millisecond, time.Millisecond} {
		now = now.Add(step)
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		if id.Compare(last) <= 0 {
			t.Fatalf("%s at %s does not sort after the borrowed %s", id, now, last)
		}
		last = id
	}
	if got := last.Timestamp(); !got.Equal(noon.Add(2 * time.Millisecond)) {
		t.Errorf("id lies at %s after the time has caught up", got)
	}
}

// A cause ahead of the time moves the id that answers it, and no other.
func TestCauseDoesNotSetTheClock(t *testing.T) {
	clock := clockAt(noon)
	edge := noon.Add(clock.Ahead)
	for _, random := range []uint64{0, maxRandom} {
		for _, actor := range []string{"ada", "grace"} {
			cause := idAt(edge, "ada", random)
			answer, err := clock.Mint(actor, cause)
			if err != nil {
				t.Fatalf("a cause at the edge: %v", err)
			}
			if want := edge.Add(time.Millisecond); !answer.Timestamp().Equal(want) {
				t.Errorf("answer lies at %s, want %s", answer.Timestamp(), want)
			}
		}
	}
	if _, err := clock.Mint("ada", idAt(noon, "ada", 0), idAt(edge.Add(time.Millisecond), "ada", 0)); !errors.Is(err, ErrIDFuture) {
		t.Errorf("a cause beyond the edge: %v", err)
	}
	id, err := clock.Mint("ada")
	if err != nil {
		t.Fatal(err)
	}
	if !id.Timestamp().Equal(noon) {
		t.Errorf("the next id lies at %s", id.Timestamp())
	}
}

// A glitch of the system's clock to a time that no id can hold must not last.
func TestTimeBefore1970(t *testing.T) {
	now := time.Date(1969, time.July, 20, 20, 17, 40, 0, time.UTC)
	clock := NewClock(func() time.Time { return now }, marks)
	id, err := clock.Mint("ada")
	if err != nil {
		t.Fatal(err)
	}
	if id.Time() != 0 {
		t.Errorf("id lies at %s", id.Timestamp())
	}
	now = noon
	if id, err = clock.Mint("ada"); err != nil || !id.Timestamp().Equal(noon) {
		t.Errorf("next id lies at %s, %v", id.Timestamp(), err)
	}
}

func TestCheck(t *testing.T) {
	clock := clockAt(noon)
	if !clock.Now().Equal(noon) {
		t.Errorf("now is %s", clock.Now())
	}
	at := func(d time.Duration) ID { return idAt(noon.Add(d), "ada", 7) }
	own := at(0)
	for name, c := range map[string]struct {
		id     ID
		causes []ID
		want   error
	}{
		"now":                      {at(0), nil, nil},
		"10 s ahead":               {at(10 * time.Second), nil, nil},
		"10 s and 1 ms ahead":      {at(10*time.Second + time.Millisecond), nil, ErrIDFuture},
		"the end of time":          {makeID(1<<48-1, marks("ada"), 7), nil, ErrIDFuture},
		"24 h behind":              {at(-24 * time.Hour), nil, nil},
		"24 h and 1 ms behind":     {at(-24*time.Hour - time.Millisecond), nil, ErrIDPast},
		"the beginning of time":    {makeID(0, marks("ada"), 7), nil, ErrIDPast},
		"the zero id":              {ID{}, nil, ErrIDNotYours},
		"of another user":          {idAt(noon, "grace", 7), nil, ErrIDNotYours},
		"of another user, too old": {makeID(0, marks("grace"), 7), nil, ErrIDNotYours},
		"its own cause":            {own, []ID{own}, ErrIDOrder},
		"after its cause":          {own, []ID{idAt(noon, "ada", 6)}, nil},
		"before its cause":         {own, []ID{idAt(noon, "ada", 8)}, ErrIDOrder},
		"before one of its causes": {own, []ID{at(-time.Hour), at(time.Millisecond), at(-time.Hour)}, ErrIDOrder},
		"after the zero id":        {own, []ID{{}}, nil},
	} {
		if err := clock.Check("ada", c.id, c.causes...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}

	// The window is a setting.
	clock.Ahead, clock.Behind = 0, time.Millisecond
	for d, want := range map[time.Duration]error{
		time.Millisecond: ErrIDFuture, 0: nil, -time.Millisecond: nil, -2 * time.Millisecond: ErrIDPast,
	} {
		if err := clock.Check("ada", at(d)); !errors.Is(err, want) {
			t.Errorf("%s from now: %v, want %v", d, err, want)
		}
	}
}

// What a clock mints, a clock of the same time takes.
func TestCheckTakesWhatMintGives(t *testing.T) {
	clock := clockAt(noon)
	cause, err := clock.Mint("grace")
	if err != nil {
		t.Fatal(err)
	}
	id, err := clock.Mint("ada", cause)
	if err != nil {
		t.Fatal(err)
	}
	if err := clockAt(noon).Check("ada", id, cause); err != nil {
		t.Errorf("check a minted id: %v", err)
	}
}

func TestLastID(t *testing.T) {
	for _, at := range []time.Time{noon, time.UnixMilli(0), time.UnixMilli(1<<48 - 1)} {
		id := LastID(at)
		if !id.Timestamp().Equal(at) {
			t.Errorf("last id of %s lies at %s", at, id.Timestamp())
		}
		if next := FollowingID(id); next != (ID{}) && next.Time() != id.Time()+1 {
			t.Errorf("%s is not the last of its millisecond", id)
		}
		if LastID(at.Add(999*time.Microsecond)) != id {
			t.Errorf("last id of %s depends on microseconds", at)
		}
	}
	if id := LastID(time.UnixMilli(-1)); id != (ID{}) {
		t.Errorf("%s lies before 1970", id)
	}
}

func TestNeighbours(t *testing.T) {
	least, greatest := ID{}, ID{}
	for i := range greatest {
		greatest[i] = 0xff
	}
	for _, c := range []struct{ below, above ID }{
		{ID{}, ID{15: 1}},
		{ID{15: 0xff}, ID{14: 1}},
		{ID{0: 1, 14: 0xff, 15: 0xff}, ID{0: 1, 13: 1}},
		{ID{0: 6, 15: 7}, ID{0: 6, 15: 8}},
	} {
		if got := FollowingID(c.below); got != c.above {
			t.Errorf("%x follows %x, want %x", got, c.below, c.above)
		}
		if got := PrecedingID(c.above); got != c.below {
			t.Errorf("%x precedes %x, want %x", got, c.above, c.below)
		}
	}
	if got := PrecedingID(least); got != least {
		t.Errorf("%x precedes the least id", got)
	}
	if got := FollowingID(greatest); got != least {
		t.Errorf("%x follows the greatest id", got)
	}
}

// A clock that was far ahead for a moment does not mint ids of that time afterwards.
func TestTimeSetBack(t *testing.T) {
	now := noon
	clock := NewClock(func() time.Time { return now }, marks)
	for _, step := range []struct{ by, want time.Duration }{{time.Hour, time.Hour}, {-clock.Ahead, time.Hour}, {-time.Hour, -clock.Ahead}, {0, -clock.Ahead}} {
		now = now.Add(step.by)
		if id, err := clock.Mint("ada"); err != nil || !id.Timestamp().Equal(noon.Add(step.want)) {
			t.Errorf("at %s: an id of %s, %v; want %s", now, id.Timestamp(), err, noon.Add(step.want))
		}
	}
}

// What is in the log is sorted after, at whatever time it lies, and so far ahead a client may mint too.
func TestCauseFarAhead(t *testing.T) {
	clock := clockAt(noon)
	cause := idAt(noon.Add(time.Hour), "grace", maxRandom)
	id := clock.MintAfter("ada", cause)
	if id.Compare(cause) <= 0 || clock.Check("ada", id, cause) != nil {
		t.Errorf("%s after %s: %v", id, cause, clock.Check("ada", id, cause))
	}
	beyond := idAt(cause.Timestamp().Add(clock.Ahead+time.Millisecond), "ada", 0)
	if err := clock.Check("ada", beyond, cause); !errors.Is(err, ErrIDFuture) || !errors.Is(clock.Check("ada", id), ErrIDFuture) {
		t.Errorf("beyond Ahead of the cause: %v", err)
	}
}

// Marks and the parts of an id are frozen: functions/live/README.md has these for those who write a
// client.
func TestMarkIsFrozen(t *testing.T) {
	// printf %s ada | openssl dgst -sha256 -hmac 'a secret that all regions share.' | cut -c 1-14
	mark := NewMarks([]byte("a secret that all regions share."))("ada")
	const want = "96b170a131c179"
	if parsed, err := ParseMark("mark", want); mark.String() != want || err != nil || parsed != mark {
		t.Errorf("mark of ada is %s, want %s; parsed %s, %v", mark, want, parsed, err)
	}
	id := makeID(uint64(noon.UnixMilli()), mark, 0x0102030405060708)
	if got, want := hex.EncodeToString(id[:]), "019f7f65b60096b170a131c179060708"; got != want {
		t.Errorf("id of noon is %s, want %s", got, want)
	}
	if got, want := id.String(), "01KXZPBDG0JTRQ189HR5WGC1R8"; got != want {
		t.Errorf("id of noon is %s, want %s", got, want)
	}
	for _, text := range []string{"", want[:12], want + "00", "zz" + want[2:]} {
		if _, err := ParseMark("mark", text); IsInvalid(err) == nil {
			t.Errorf("%q is a mark: %v", text, err)
		}
	}
	// printf %s ada | sha256sum | head -c 8
	if got, want := FormerMark("ada"), [4]byte{0xfd, 0xee, 0x43, 0x0d}; got != want {
		t.Errorf("former mark of ada is %x, want %x", got, want)
	}
}

// Ids of imported events sort by time, order and hash, follow from these alone, and are recognized. No
// clock makes such an id.
func TestImportedID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := func(name string) (ms uint64, order uint16, hash uint32) {
			return rapid.Uint64Range(0, 1<<48-1).Draw(t, "ms "+name), rapid.Uint16().Draw(t, "order "+name), rapid.Uint32Range(0, 1<<24-1).Draw(t, "hash "+name)
		}
		ms, order, hash := part("a")
		ms2, order2, hash2 := part("b")
		a, b := ImportedID(ms, order, hash), ImportedID(ms2, order2, hash2)
		want := cmp.Or(cmp.Compare(ms, ms2), cmp.Compare(order, order2), cmp.Compare(hash, hash2))
		if a.Compare(b) != want || !Imported(a) || a.Time() != ms {
			t.Fatalf("%s and %s compare as %d, want %d; the first is of %d", a, b, a.Compare(b), want, a.Time())
		}
		minted := NewClock(time.Now, NewMarks(nil)).MintAfter(rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "actor"))
		if Imported(minted) || NewMarks(nil).Owns("ada", a) {
			t.Fatal("a minted id passes for an imported one, or the other way round")
		}
	})
}

// What imported ids look like is frozen: an import that is repeated must make the same ones.
func TestImportedIDIsFrozen(t *testing.T) {
	if got := ImportedID(1577900001000, 0x1234, 0xabcdef).String(); got != "01DXH2PHQ8E1GQ6X1E28TAQKFF" {
		t.Errorf("the id is %s", got)
	}
}
