package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"parley/events"
)

const (
	// Life is how long a process uses what it knows of a user before it looks again: so long after
	// her keys were destroyed some other process may still open what she wrote.
	Life = 30 * time.Second
	// ringSize is how many users a process knows at once.
	ringSize = 10_000
	// wait is how long content is held up for a key that is still on its way from another region.
	wait = 2 * time.Second
	// look is how often it is looked for meanwhile.
	look = 20 * time.Millisecond
	// within bounds one look at the store, and the making of a key.
	within = 5 * time.Second
	// loads is how many users are looked up side by side.
	loads = 16
)

// Ring seals and opens content with the keys of a region's [Store], which it remembers for a while.
// Make one with [NewRing]; a nil Ring seals nothing, and opens only what is not sealed. It is safe
// for concurrent use.
type Ring struct {
	store   Store
	wrapper Wrapper
	now     func() time.Time
	users   *lru.Cache[string, *held]
	keeping sync.Mutex         // held to change users
	calls   singleflight.Group // what is under way, by what it is and the user
}

// held is what a process knows of a user.
type held struct {
	keys   []*dataKey // the first is the one to seal with
	erased bool
	at     time.Time // when it was loaded
}

// NewRing returns a ring of a region's keys. A nil now is time.Now.
func NewRing(store Store, wrapper Wrapper, now func() time.Time) *Ring {
	if now == nil {
		now = time.Now
	}
	users, err := lru.New[string, *held](ringSize)
	if err != nil {
		panic(err) // only of a size below 1
	}
	return &Ring{store: store, wrapper: wrapper, now: now, users: users}
}

// Seal returns the event with its contents sealed under its actor's key, which is made if she has
// none. What is sealed or erased already stays. [ErrErased] if she was erased.
func (r *Ring) Seal(ctx context.Context, e events.Event) (events.Event, error) {
	if r == nil || !e.Personal() {
		return e, nil
	}
	var key *dataKey
	return e.WithContent(func(field string, c events.Content) (events.Content, error) {
		if _, is := c.Sealed(); is || c.Erased() {
			return c, nil
		}
		if key == nil {
			var err error
			if key, err = r.sealing(ctx, e.Actor); err != nil {
				return c, fmt.Errorf("seal content: %w", err)
			}
		}
		return key.sealed(e.Actor, e.ID, field, c.Text()), nil
	})
}

// Open opens content of an owner: to plain text, or to [events.Erased] if she was erased. It waits
// a moment for a key that is not here yet, then it is [ErrMissing].
func (r *Ring) Open(ctx context.Context, owner string, c events.Content) (events.Content, error) {
	sealed, is := c.Sealed()
	if !is {
		return c, nil
	}
	if r == nil {
		return c, fmt.Errorf("open content: %w", ErrMissing)
	}
	id, err := keyOf(sealed)
	if err != nil {
		return c, fmt.Errorf("open content: %w", err)
	}
	h, err := r.having(ctx, owner, id)
	switch {
	case err != nil:
		return c, fmt.Errorf("open content: %w", err)
	case h.erased:
		return events.Erased(), nil
	}
	opened, err := h.key(id).opened(owner, sealed)
	if err != nil {
		return c, fmt.Errorf("open content: %w", err)
	}
	return opened, nil
}

// OpenEvent opens all contents of an event. Like Open it fails as a whole or not at all.
func (r *Ring) OpenEvent(ctx context.Context, e events.Event) (events.Event, error) {
	return e.WithContent(func(_ string, c events.Content) (events.Content, error) {
		return r.Open(ctx, e.Actor, c)
	})
}

// Show opens content for a reader: what somebody has damaged nobody can open any more, and it must
// not hide all that stands beside it, so it shows as erased.
func (r *Ring) Show(ctx context.Context, owner string, c events.Content) (events.Content, error) {
	opened, err := r.Open(ctx, owner, c)
	if errors.Is(err, ErrDamaged) {
		return events.Erased(), nil
	}
	return opened, err
}

// ShowEvent opens all contents of an event for a reader, as Show does.
func (r *Ring) ShowEvent(ctx context.Context, e events.Event) (events.Event, error) {
	return e.WithContent(func(_ string, c events.Content) (events.Content, error) {
		return r.Show(ctx, e.Actor, c)
	})
}

// Same reports whether a stored event, which may be sealed, says what one that is not does, by
// [events.Same]. Where two regions made keys for the same user side by side, one command may have
// become an event in two forms.
func (r *Ring) Same(ctx context.Context, stored, given events.Event) (bool, error) {
	opened, err := r.OpenEvent(ctx, stored)
	if err != nil {
		return false, err
	}
	return events.Same(opened, given), nil
}

// Warm loads the keys of users side by side, so that what comes next finds them. What fails here
// fails again there.
func (r *Ring) Warm(ctx context.Context, users ...string) {
	if r == nil {
		return
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(loads)
	for _, user := range slices.Compact(slices.Sorted(slices.Values(users))) {
		if h, known := r.users.Get(user); known && r.fresh(h) {
			continue
		}
		group.Go(func() error {
			_, err := r.held(ctx, user)
			return err
		})
	}
	_ = group.Wait()
}

// Erase destroys a user's keys in this region; from then on this process opens nothing of hers, and
// other processes after [Life].
func (r *Ring) Erase(ctx context.Context, user string) error {
	if r == nil {
		return nil
	}
	if err := r.store.Erase(ctx, user); err != nil {
		return fmt.Errorf("erase a user: %w", err)
	}
	r.keep(user, &held{erased: true})
	return nil
}

// key finds a key by its id; nil if there is none.
func (h *held) key(id ID) *dataKey {
	for _, k := range h.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

// fresh reports whether it need not be loaded again. Who was erased stays erased.
func (r *Ring) fresh(h *held) bool { return h.erased || r.now().Sub(h.at) < Life }

// keep remembers what there is of a user, and returns what holds: if she was erased meanwhile, that.
func (r *Ring) keep(user string, h *held) *held {
	r.keeping.Lock()
	defer r.keeping.Unlock()
	if now, known := r.users.Peek(user); known && now.erased {
		return now
	}
	r.users.Add(user, h)
	return h
}

// held returns what there is of a user, from memory for as long as it lives.
func (r *Ring) held(ctx context.Context, user string) (*held, error) {
	if h, known := r.users.Get(user); known && r.fresh(h) {
		return h, nil
	}
	return r.load(ctx, user)
}

// having returns what there is of a user once it has a key, or she was erased.
func (r *Ring) having(ctx context.Context, user string, id ID) (*held, error) {
	h, err := r.held(ctx, user)
	for end := r.now().Add(wait); err == nil && !h.erased && h.key(id) == nil; h, err = r.load(ctx, user) {
		if r.now().After(end) {
			return nil, ErrMissing
		}
		timer := time.NewTimer(look)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(ErrMissing, ctx.Err())
		}
	}
	return h, err
}

// sealing returns the key to seal with; a user who has none gets one.
func (r *Ring) sealing(ctx context.Context, user string) (*dataKey, error) {
	h, err := r.held(ctx, user)
	for err == nil && !h.erased && len(h.keys) == 0 {
		if err = r.mint(ctx, user); err == nil {
			h, err = r.load(ctx, user)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case h.erased:
		return nil, ErrErased
	default:
		return h.keys[0], nil
	}
}

// mint adds a first key. Those who want one at the same time in this process get the same.
func (r *Ring) mint(ctx context.Context, user string) error {
	_, err, _ := r.calls.Do("mint "+user, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
		defer cancel()
		stored, err := r.store.Load(ctx, user)
		if err != nil || stored.Erased || len(stored.Wrapped) > 0 {
			return nil, err // someone was ahead
		}
		wrapped, err := r.wrapper.Wrap(ctx, user, random(keySize))
		if err != nil {
			return nil, err
		}
		return nil, r.store.Add(ctx, user, Wrapped{ID(random(len(ID{}))), wrapped})
	})
	return err
}

// load reads a user's keys from the store. A key that was unwrapped before is not unwrapped again.
// Those who want the same at the same time share one look, and whoever has no more time leaves it to
// the others.
func (r *Ring) load(ctx context.Context, user string) (*held, error) {
	look := r.calls.DoChan("load "+user, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
		defer cancel()
		return r.read(ctx, user)
	})
	select {
	case got := <-look:
		h, _ := got.Val.(*held)
		return h, got.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *Ring) read(ctx context.Context, user string) (*held, error) {
	at := r.now() // what is destroyed from here on is seen again in time
	stored, err := r.store.Load(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	h := &held{erased: stored.Erased, at: at}
	if !h.erased {
		if h.keys, err = r.unwrap(ctx, user, stored.Wrapped); err != nil {
			return nil, err
		}
	}
	return r.keep(user, h), nil
}

func (r *Ring) unwrap(ctx context.Context, user string, wrapped []Wrapped) ([]*dataKey, error) {
	before, _ := r.users.Peek(user)
	keys := make([]*dataKey, len(wrapped))
	for i, w := range wrapped {
		if before != nil {
			keys[i] = before.key(w.ID)
		}
		if keys[i] != nil {
			continue
		}
		bytes, err := r.wrapper.Unwrap(ctx, user, w.Bytes)
		if err != nil {
			return nil, err
		}
		if keys[i], err = newDataKey(w.ID, bytes); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(keys, func(a, b *dataKey) int { return bytes.Compare(a.id[:], b.id[:]) })
	return keys, nil
}
