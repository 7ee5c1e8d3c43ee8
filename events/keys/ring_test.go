package keys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/keys"
	"parley/events/keys/filekeys"
)

// counted counts the calls of a store, and can make them fail.
type counted struct {
	keys.Store
	loads, adds atomic.Int64
	fail        atomic.Pointer[error]
}

func (s *counted) Load(ctx context.Context, user string) (keys.Keys, error) {
	s.loads.Add(1)
	if err := s.fail.Load(); err != nil {
		return keys.Keys{}, *err
	}
	return s.Store.Load(ctx, user)
}

func (s *counted) Add(ctx context.Context, user string, k keys.Wrapped) error {
	s.adds.Add(1)
	if err := s.fail.Load(); err != nil {
		return *err
	}
	return s.Store.Add(ctx, user, k)
}

func (s *counted) Users(ctx context.Context) iter.Seq2[string, error] { return s.Store.Users(ctx) }

func newStore(t testing.TB) *counted {
	t.Helper()
	s, err := filekeys.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &counted{Store: s}
}

func root(t testing.TB, fill byte) keys.Wrapper {
	t.Helper()
	w, err := keys.NewRoot(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var room = events.RoomStream("01DXF6GVN0G6V3FP00002C4QTG")

func post(t testing.TB, actor string, n byte, text string) events.Event {
	t.Helper()
	id := events.ID{5: 1, 15: n}
	mark := events.FormerMark(actor)
	copy(id[6:], mark[:])
	e, err := events.New(id, room, actor, "here", events.MessagePosted{Text: events.Plain(text)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func seal(t testing.TB, r *keys.Ring, e events.Event) events.Event {
	t.Helper()
	sealed, err := r.Seal(context.Background(), e)
	if err != nil {
		t.Fatalf("Seal: %v", err)
	}
	return sealed
}

func textOf(e events.Event) events.Content { return e.Payload.(events.MessagePosted).Text }

func TestSealedAndOpened(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := keys.NewRing(newStore(t), root(t, 1), nil)
		text := rapid.StringN(1, 300, events.MaxTextBytes).Draw(rt, "text")
		e := post(t, "ada", 1, text)
		sealed := seal(t, r, e)
		if len(text) > 8 && strings.Contains(string(sealed.Data), text) {
			rt.Fatal("the sealed event contains the plain text")
		}
		// As the log returns it.
		stored, err := events.Decode(events.Encode(sealed))
		if err != nil {
			rt.Fatal(err)
		}
		opened, err := r.OpenEvent(t.Context(), stored)
		if err != nil || !events.Same(opened, e) || textOf(opened) != textOf(e) {
			rt.Fatalf("the opened event differs from the original: %v", err)
		}
		if same, err := r.Same(t.Context(), stored, e); err != nil || !same {
			rt.Fatalf("Same: %v, %v", same, err)
		}
	})
}

// An event with the longest text can be decoded after it was sealed.
func TestLongest(t *testing.T) {
	r := keys.NewRing(newStore(t), root(t, 1), nil)
	e := seal(t, r, post(t, "ada", 1, strings.Repeat("x", events.MaxTextBytes)))
	stored, err := events.Decode(events.Encode(e))
	if _, is := stored.Payload.(events.MessagePosted); err != nil || !is {
		t.Fatalf("stored: %T, %v", stored.Payload, err)
	}
}

// A retried command is the same event byte for byte, also after a restart and in another region.
func TestSealingIsAFunction(t *testing.T) {
	store := newStore(t)
	first := seal(t, keys.NewRing(store, root(t, 1), nil), post(t, "ada", 1, "hello"))
	again := seal(t, keys.NewRing(store, root(t, 1), nil), post(t, "ada", 1, "hello"))
	if !bytes.Equal(first.Data, again.Data) {
		t.Error("the retried command became a different event")
	}
	for _, other := range []events.Event{post(t, "ada", 2, "hello"), post(t, "ada", 1, "hellO"), post(t, "bob", 1, "hello")} {
		if bytes.Equal(first.Data, seal(t, keys.NewRing(store, root(t, 1), nil), other).Data) {
			t.Error("a different command became the same bytes")
		}
	}
	if twice := seal(t, keys.NewRing(store, root(t, 1), nil), first); !bytes.Equal(first.Data, twice.Data) {
		t.Error("sealed content was sealed again")
	}
}

func TestDamaged(t *testing.T) {
	r := keys.NewRing(newStore(t), root(t, 1), nil)
	e := post(t, "ada", 1, "hello")
	whole, _ := textOf(seal(t, r, e)).Sealed()
	seal(t, r, post(t, "bob", 1, "hello"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // do not wait for keys that never arrive
	for i := range whole {
		broken := []byte(whole)
		broken[i] ^= 1
		want := keys.ErrDamaged
		if 1 <= i && i <= len(keys.ID{}) {
			want = keys.ErrMissing // the bytes name another key
		}
		if _, err := r.Open(ctx, "ada", e.ID, "text", events.Sealed(broken)); !errors.Is(err, want) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, err := r.Open(ctx, "ada", e.ID, "text", events.Sealed([]byte(whole[:i]))); !errors.Is(err, keys.ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := r.Open(ctx, "bob", e.ID, "text", events.Sealed([]byte(whole))); err == nil {
		t.Error("content of ada opens as content of bob")
	}
	// Sealed content that was moved is as good as damaged.
	for _, to := range []struct {
		id    events.ID
		field string
	}{{e.ID, "name"}, {post(t, "ada", 2, "hello").ID, "text"}} {
		if _, err := r.Open(ctx, "ada", to.id, to.field, events.Sealed([]byte(whole))); !errors.Is(err, keys.ErrDamaged) {
			t.Errorf("content opens as %s of %s: %v", to.field, to.id, err)
		}
	}
}

// One key or text that is damaged, or has not arrived, hides nothing else, nor keeps its user from
// writing; a copy that is not damaged opens everything again.
func TestShowDespiteDamage(t *testing.T) { synctest.Test(t, testShowDespiteDamage) }

func testShowDespiteDamage(t *testing.T) {
	store := newStore(t)
	first, bobs := post(t, "ada", 1, "first"), post(t, "bob", 1, "hello")
	r := keys.NewRing(store, root(t, 1), nil)
	es := []events.Event{seal(t, r, first), seal(t, r, bobs)}
	stored, err := store.Load(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	good := stored.Wrapped[0]
	r = keys.NewRing(store, root(t, 1), nil)
	asked := 0
	r.Repair = func(user string) {
		if asked++; user != "ada" {
			t.Errorf("a copy of the keys of %s is asked for", user)
		}
	}
	for _, damaged := range [][]byte{{}, []byte("not a key"), append(bytes.Clone(good.Bytes[1:]), 0)} {
		if err := store.Add(t.Context(), "ada", keys.Wrapped{ID: good.ID, Bytes: damaged}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(keys.Life)
		second := seal(t, r, post(t, "ada", 2, "second"))
		shown, err := r.ShowEvents(t.Context(), append(slices.Clone(es), second)...)
		if err != nil {
			t.Fatal(err)
		}
		if _, unreadable := shown[0].Withheld(); !unreadable || !textOf(shown[0]).Unopened() {
			t.Errorf("what was sealed with the damaged key shows as %s", shown[0].Data)
		}
		if textOf(shown[1]).Text() != "hello" || textOf(shown[2]).Text() != "second" {
			t.Errorf("the others show as %s and %s", shown[1].Data, shown[2].Data)
		}
	}
	if err := store.Add(t.Context(), "ada", good); err != nil {
		t.Fatal(err)
	}
	if asked == 0 {
		t.Error("no copy of the damaged key was asked for")
	}
	time.Sleep(time.Second) // a process that has seen the damage need not wait for long
	if shown, err := r.ShowEvents(t.Context(), es...); err != nil || textOf(shown[0]).Text() != "first" {
		t.Errorf("with the good copy: %s, %v", shown[0].Data, err)
	}
}

func TestErased(t *testing.T) {
	store := newStore(t)
	r, elsewhere := keys.NewRing(store, root(t, 1), nil), keys.NewRing(store, root(t, 1), nil)
	e := seal(t, r, post(t, "ada", 1, "hello"))
	bobs := seal(t, r, post(t, "bob", 1, "hello"))
	if err := r.Erase(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	for _, ring := range []*keys.Ring{r, elsewhere, keys.NewRing(store, root(t, 1), nil)} {
		opened, err := ring.OpenEvent(t.Context(), e)
		if err != nil || !textOf(opened).Erased() || string(opened.Data) != `{"text":null}` {
			t.Errorf("opened: %s, %v", opened.Data, err)
		}
		if _, err := ring.Seal(t.Context(), post(t, "ada", 2, "again")); !errors.Is(err, keys.ErrErased) {
			t.Errorf("Seal: %v", err)
		}
		if opened, err := ring.OpenEvent(t.Context(), bobs); err != nil || textOf(opened) != events.Plain("hello") {
			t.Errorf("bob's: %v", err)
		}
	}
}

// To ask whether a user was erased costs a message no load beyond the one that sealing it takes.
func TestNotErasedIsCached(t *testing.T) {
	store := newStore(t)
	seal(t, keys.NewRing(store, root(t, 1), nil), post(t, "ada", 1, "hello"))
	r, before := keys.NewRing(store, root(t, 1), nil), store.loads.Load()
	for i := range byte(3) {
		if err := r.NotErased(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		seal(t, r, post(t, "ada", 2+i, "hello"))
	}
	if n := store.loads.Load() - before; n != 1 {
		t.Errorf("the store was loaded %d times for three messages, want once", n)
	}
	if err := r.Erase(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	if err := r.NotErased(t.Context(), "ada"); !errors.Is(err, keys.ErrErased) {
		t.Errorf("NotErased: %v", err)
	}
}

// Another process that has cached the keys can decrypt no longer than Life.
func TestErasedElsewhere(t *testing.T) {
	store := newStore(t)
	now := time.Now()
	r, elsewhere := keys.NewRing(store, root(t, 1), nil), keys.NewRing(store, root(t, 1), func() time.Time { return now })
	e := seal(t, r, post(t, "ada", 1, "hello"))
	if _, err := elsewhere.OpenEvent(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := r.Erase(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(keys.Life)
	if opened, err := elsewhere.OpenEvent(t.Context(), e); err != nil || !textOf(opened).Erased() {
		t.Errorf("opened: %s, %v", opened.Data, err)
	}
}

// If two regions each created a key, each opens content of the other once the keys are replicated,
// and both then seal with the same key.
func TestTwoRegionsTwoKeys(t *testing.T) {
	a, b := newStore(t), newStore(t)
	ringA, ringB := keys.NewRing(a, root(t, 1), nil), keys.NewRing(b, root(t, 1), nil)
	e := post(t, "ada", 1, "hello")
	inA, inB := seal(t, ringA, e), seal(t, ringB, e)
	if bytes.Equal(inA.Data, inB.Data) {
		t.Fatal("two regions created the same key")
	}
	for _, way := range [][2]*counted{{a, b}, {b, a}} {
		got, err := way[0].Store.Load(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range got.Wrapped {
			if err := way[1].Store.Add(t.Context(), "ada", k); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, sealed := range []events.Event{inA, inB} {
		for _, r := range []*keys.Ring{ringA, ringB} {
			if same, err := r.Same(t.Context(), sealed, e); err != nil || !same {
				t.Errorf("Same: %v, %v", same, err)
			}
		}
	}
	now := keys.NewRing(a, root(t, 1), nil)
	if x, y := seal(t, now, e), seal(t, keys.NewRing(b, root(t, 1), nil), e); !bytes.Equal(x.Data, y.Data) {
		t.Error("they still seal with different keys")
	}
}

// Content may arrive before its key: Open waits for a while, and returns as soon as the key arrives.
func TestKeyOnItsWay(t *testing.T) {
	from, to := newStore(t), newStore(t)
	e := seal(t, keys.NewRing(from, root(t, 1), nil), post(t, "ada", 1, "hello"))
	got, err := from.Store.Load(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := keys.NewRing(to, root(t, 1), nil)
		began := time.Now()
		if _, err := r.OpenEvent(t.Context(), e); !errors.Is(err, keys.ErrMissing) {
			t.Fatalf("OpenEvent: %v, want ErrMissing", err)
		}
		if waited := time.Since(began); waited < time.Second || waited > 5*time.Second {
			t.Errorf("OpenEvent waited for %v", waited)
		}
		began = time.Now()
		if shown, err := r.ShowEvents(t.Context(), e, e); err != nil || !textOf(shown[0]).Unopened() || !time.Now().Equal(began) {
			t.Errorf("waited again, for %v: %v", time.Since(began), err)
		}
		r = keys.NewRing(to, root(t, 1), nil)
		time.AfterFunc(500*time.Millisecond, func() {
			if err := to.Store.Add(context.Background(), "ada", got.Wrapped[0]); err != nil {
				t.Error(err)
			}
		})
		if opened, err := r.OpenEvent(t.Context(), e); err != nil || textOf(opened) != events.Plain("hello") {
			t.Errorf("OpenEvent: %v", err)
		}
	})
}

// Concurrent first calls for a user create one key, with few loads from the store.
func TestOneKeyForAll(t *testing.T) {
	store := newStore(t)
	r := keys.NewRing(store, root(t, 1), nil)
	var work sync.WaitGroup
	for i := range 64 {
		work.Go(func() {
			for j := range 20 {
				if _, err := r.Seal(context.Background(), post(t, "ada", byte(i), fmt.Sprint("text ", j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	got, err := store.Store.Load(t.Context(), "ada")
	if err != nil || len(got.Wrapped) != 1 {
		t.Errorf("%d keys, %v", len(got.Wrapped), err)
	}
	if n := store.loads.Load(); n > 3*64 {
		t.Errorf("the store was loaded %d times", n)
	}
}

func TestFaults(t *testing.T) {
	store := newStore(t)
	r := keys.NewRing(store, root(t, 1), nil)
	e := post(t, "ada", 1, "hello")
	broken := errors.New("broken")
	store.fail.Store(&broken)
	if _, err := r.Seal(t.Context(), e); !errors.Is(err, broken) {
		t.Errorf("Seal: %v", err)
	}
	store.fail.Store(nil)
	sealed := seal(t, r, e) // the failure is not cached
	other := keys.NewRing(store, root(t, 2), nil)
	if _, err := other.OpenEvent(t.Context(), sealed); err == nil {
		t.Error("content opens with another root key")
	}
	var none *keys.Ring
	if same, err := none.Seal(t.Context(), e); err != nil || !bytes.Equal(same.Data, e.Data) {
		t.Errorf("nil ring: Seal: %v", err)
	}
	if _, err := none.OpenEvent(t.Context(), sealed); !errors.Is(err, keys.ErrMissing) {
		t.Errorf("nil ring: OpenEvent: %v", err)
	}
	for _, size := range []int{0, 31, 33} {
		if _, err := keys.NewRoot(make([]byte, size)); err == nil {
			t.Errorf("a root key of %d bytes is accepted", size)
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := keys.NewRing(newStore(f), root(f, 1), nil)
	e := post(f, "ada", 1, "hello")
	whole, _ := textOf(seal(f, r, e)).Sealed()
	f.Add([]byte(whole))
	f.Add([]byte{1})
	ctx, cancel := context.WithCancel(f.Context())
	cancel() // do not wait for keys that never arrive
	f.Fuzz(func(t *testing.T, sealed []byte) {
		c, err := r.Open(ctx, "ada", e.ID, "text", events.Sealed(sealed))
		if err == nil && c.Text() != "hello" {
			t.Error("forged content opens")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	r := keys.NewRing(newStore(b), root(b, 1), nil)
	e := post(b, "ada", 1, strings.Repeat("Okay, Houston. ", 13))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Seal(context.Background(), e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	r := keys.NewRing(newStore(b), root(b, 1), nil)
	e := seal(b, r, post(b, "ada", 1, strings.Repeat("Okay, Houston. ", 13)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.OpenEvent(context.Background(), e); err != nil {
			b.Fatal(err)
		}
	}
}
