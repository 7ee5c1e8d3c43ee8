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
	// Life is how long a process caches the keys of a user. For so long after the keys were destroyed
	// another process may still decrypt the user's content.
	Life = 30 * time.Second
	// damagedLife is how long it does so if one of them is damaged: another region's copy may replace it.
	damagedLife = time.Second
	// ringSize is how many users are cached.
	ringSize = 10_000
	// missingTimeout is how long Open waits for a key that is not yet replicated to this region.
	missingTimeout = 2 * time.Second
	// missingPoll is how often the key is loaded meanwhile.
	missingPoll = 20 * time.Millisecond
	// storeTimeout bounds the loading and the creation of a key.
	storeTimeout = 5 * time.Second
	// parallelLoads is how many users Warm loads concurrently.
	parallelLoads = 16
)

// Ring seals and opens content with the keys of a region's [Store], which it caches for [Life].
// Make one with [NewRing]. A nil Ring seals nothing and fails to open sealed content. It is safe for
// concurrent use.
type Ring struct {
	// Repair asks for the keys of a user to be copied from the other regions, because one is missing or
	// damaged here. It may be called often, and must not wait. May be nil; set it before the ring is used.
	Repair func(user string)

	store   Store
	wrapper Wrapper
	now     func() time.Time
	cache   *lru.Cache[string, *userKeys] // by user
	writing sync.Mutex                    // held to change the cache
	calls   singleflight.Group            // calls in progress, by operation and user
	missed  *lru.Cache[missedKey, time.Time]
}

// userKeys are the unwrapped keys of a user.
type userKeys struct {
	keys   []*dataKey // damaged ones too; see usable
	erased bool
	at     time.Time // when they were loaded
}

// NewRing returns a ring of a region's keys. A nil now is time.Now.
func NewRing(store Store, wrapper Wrapper, now func() time.Time) *Ring {
	if now == nil {
		now = time.Now
	}
	cache, err := lru.New[string, *userKeys](ringSize)
	if err != nil {
		panic(err) // only if the size is below 1
	}
	missed, err := lru.New[missedKey, time.Time](ringSize)
	if err != nil {
		panic(err)
	}
	return &Ring{store: store, wrapper: wrapper, now: now, cache: cache, missed: missed}
}

// Seal returns the event with its contents sealed with its actor's key, which is created if there is
// none, and with the digest of that form. Contents that are sealed or erased already do not change. It
// fails with [ErrErased] if the actor was erased.
func (r *Ring) Seal(ctx context.Context, e events.Event) (events.Event, error) {
	if r == nil || !e.Personal() {
		return e, nil
	}
	var key *dataKey
	sealed, err := e.WithContent(func(field string, c events.Content) (events.Content, error) {
		if _, is := c.Sealed(); is || c.Erased() {
			return c, nil
		}
		if key == nil {
			var err error
			if key, err = r.sealKey(ctx, e.Actor); err != nil {
				return c, fmt.Errorf("seal content: %w", err)
			}
		}
		return key.seal(e.Actor, e.ID, field, c.Text()), nil
	})
	if err != nil || key == nil {
		return e, err
	}
	return sealed.WithDigest(), nil
}

// Open decrypts content of an owner, sealed as a field of the event with the id, to plain text, or
// returns [events.Erased] if the owner was erased. It waits up to 2 s for a key that is not yet
// replicated, then fails with a [MissingError]. It fails with [ErrDamaged] if the content is not what
// was sealed for that field of that event.
func (r *Ring) Open(ctx context.Context, owner string, id events.ID, field string, c events.Content) (events.Content, error) {
	return r.openBy(ctx, r.deadline(), owner, id, field, c)
}

// OpenEvent decrypts all contents of an event, as Open does. If one fails, it fails.
func (r *Ring) OpenEvent(ctx context.Context, e events.Event) (events.Event, error) {
	end := r.deadline()
	return e.WithContent(func(field string, c events.Content) (events.Content, error) {
		return r.openBy(ctx, end, e.Actor, e.ID, field, c)
	})
}

// Item is content of an owner, sealed as a field of the event with the ID.
type Item struct {
	Owner   string
	ID      events.ID
	Field   string
	Content events.Content
}

// Show decrypts contents for readers, in their order. Content that cannot be opened, because its key
// is not here yet or something is damaged, is [events.Unopened]: it must not hide the content around
// it. Show waits up to 2 s for all missing keys together. An error is one of the store.
func (r *Ring) Show(ctx context.Context, items ...Item) ([]events.Content, error) {
	var owners []string
	for _, item := range items {
		if _, sealed := item.Content.Sealed(); sealed {
			owners = append(owners, item.Owner)
		}
	}
	r.Warm(ctx, owners...)
	end, out := r.deadline(), make([]events.Content, len(items))
	for i, item := range items {
		opened, err := r.openBy(ctx, end, item.Owner, item.ID, item.Field, item.Content)
		switch {
		case errors.Is(err, ErrMissing), errors.Is(err, ErrDamaged):
			opened = events.Unopened()
		case err != nil:
			return nil, err
		}
		out[i] = opened
	}
	return out, nil
}

// ShowEvents decrypts all contents of events for readers, as Show does.
func (r *Ring) ShowEvents(ctx context.Context, es ...events.Event) ([]events.Event, error) {
	var items []Item
	for _, e := range es {
		_, _ = e.WithContent(func(field string, c events.Content) (events.Content, error) {
			items = append(items, Item{e.Actor, e.ID, field, c})
			return c, nil
		})
	}
	opened, err := r.Show(ctx, items...)
	if err != nil {
		return nil, err
	}
	out := make([]events.Event, len(es))
	for i, e := range es {
		out[i], err = e.WithContent(func(string, events.Content) (events.Content, error) {
			c := opened[0]
			opened = opened[1:]
			return c, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// deadline is until when a call waits for keys.
func (r *Ring) deadline() time.Time {
	if r == nil {
		return time.Time{}
	}
	return r.now().Add(missingTimeout)
}

// openBy is Open, and waits for a key until a time.
func (r *Ring) openBy(ctx context.Context, end time.Time, owner string, id events.ID, field string, c events.Content) (events.Content, error) {
	sealed, is := c.Sealed()
	if !is {
		return c, nil
	}
	if r == nil {
		return c, fmt.Errorf("open content: %w", ErrMissing)
	}
	key, err := keyOf(sealed)
	if err != nil {
		return c, fmt.Errorf("open content: %w", err)
	}
	k, err := r.waitForKey(ctx, owner, key, end)
	switch {
	case err != nil:
		return c, fmt.Errorf("open content: %w", err)
	case k.erased:
		return events.Erased(), nil
	}
	opened, err := k.find(key).open(owner, id, field, sealed)
	if err != nil {
		return c, fmt.Errorf("open content: %w", err)
	}
	return opened, nil
}

// NotErased fails with [ErrErased] if a user was erased: nothing may be written for them. It reads the
// store only if the user's keys are not cached, once in [Life] for each user who writes: [Ring.Seal]
// needs no other read then.
func (r *Ring) NotErased(ctx context.Context, user string) error {
	if r == nil {
		return nil
	}
	k, err := r.userKeys(ctx, user)
	if err == nil && k.erased {
		err = ErrErased
	}
	return err
}

// Knows reports whether a user has a key, or had one and was erased.
func (r *Ring) Knows(ctx context.Context, user string) (bool, error) {
	if r == nil {
		return false, nil
	}
	k, err := r.userKeys(ctx, user)
	return err == nil && (k.erased || len(k.keys) > 0), err
}

// Misses reports whether a key of the event's contents is not in this region, yet. It does not wait.
func (r *Ring) Misses(ctx context.Context, e events.Event) (missing bool, err error) {
	if r == nil {
		return false, nil
	}
	_, err = e.WithContent(func(_ string, c events.Content) (events.Content, error) {
		sealed, is := c.Sealed()
		if !is {
			return c, nil
		}
		key, err := keyOf(sealed)
		if err != nil {
			return c, nil // damaged content misses no key
		}
		k, err := r.userKeys(ctx, e.Actor)
		if err == nil && !k.erased && !k.readable(key) {
			r.repair(e.Actor)
			k, err = r.loadKeys(ctx, e.Actor)
		}
		missing = missing || err == nil && !k.erased && !k.readable(key)
		return c, err
	})
	return missing, err
}

// Same reports whether a stored event, which may be sealed, equals an unsealed one by [events.Same].
// If two regions created keys for one user concurrently, one command may have become an event in two
// sealed forms, so their bytes cannot be compared.
func (r *Ring) Same(ctx context.Context, stored, given events.Event) (bool, error) {
	if isDeleted, _ := given.Withheld(); isDeleted { // exported after its message was deleted
		var err error
		if stored, err = stored.WithContent(func(string, events.Content) (events.Content, error) { return events.Deleted(), nil }); err != nil {
			return false, err
		}
	}
	opened, err := r.OpenEvent(ctx, stored)
	if err != nil {
		return false, err
	}
	return events.Same(opened, given), nil
}

// Find returns the event of a log that is the given one by [events.Same] or [Ring.Same]. It fails with
// [events.ErrNotFound] if nothing has its id, with [ErrErased] if the actor was erased, and with
// [events.ErrConflict] if only other content has its id. See [events.Find] for stale.
func (r *Ring) Find(ctx context.Context, log events.Log, given events.Event, stale bool) (events.Event, error) {
	found, err := events.Find(ctx, log, given.Stream, given.ID, stale)
	if err != nil {
		return events.Event{}, err
	}
	for _, stored := range found {
		if events.Same(stored, given) {
			return stored, nil
		}
		same, err := r.Same(ctx, stored, given)
		if err != nil || same {
			return stored, err
		}
	}
	if len(found) == 0 {
		return events.Event{}, events.ErrNotFound
	}
	if err := r.NotErased(ctx, given.Actor); err != nil {
		return events.Event{}, err // of an erased user nothing can be compared
	}
	return events.Event{}, events.ErrConflict
}

// Warm loads the keys of users concurrently into the cache. It returns no error: a load that fails is
// repeated by Seal or Open, which return its error.
func (r *Ring) Warm(ctx context.Context, users ...string) {
	if r == nil {
		return
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLoads)
	for _, user := range slices.Compact(slices.Sorted(slices.Values(users))) {
		if r.cachedKeys(user) != nil {
			continue
		}
		group.Go(func() error {
			_, err := r.loadKeys(ctx, user)
			return err
		})
	}
	_ = group.Wait()
}

// WarmEvents loads the keys of the contents of events, see [Ring.Warm].
func (r *Ring) WarmEvents(ctx context.Context, es ...events.Event) {
	var owners []string
	for _, e := range es {
		_, _ = e.WithContent(func(_ string, c events.Content) (events.Content, error) {
			if _, sealed := c.Sealed(); sealed {
				owners = append(owners, e.Actor)
			}
			return c, nil
		})
	}
	r.Warm(ctx, owners...)
}

// Erase destroys a user's keys in this region. This process can no longer decrypt the user's content
// when it returns, other processes [Life] later.
func (r *Ring) Erase(ctx context.Context, user string) error {
	if r == nil {
		return nil
	}
	if err := r.store.Erase(ctx, user); err != nil {
		return fmt.Errorf("erase a user: %w", err)
	}
	r.cacheKeys(user, &userKeys{erased: true})
	return nil
}

// find returns the key with an id, nil if there is none.
func (u *userKeys) find(id ID) *dataKey {
	for _, k := range u.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

// readable reports whether the key with an id is here and not damaged.
func (u *userKeys) readable(id ID) bool {
	k := u.find(id)
	return k != nil && !k.damaged()
}

// usable returns the key to seal with, the first that is not damaged; nil if there is none.
func (u *userKeys) usable() *dataKey {
	for _, k := range u.keys {
		if !k.damaged() {
			return k
		}
	}
	return nil
}

// cacheKeys caches the keys of a user and returns them. An erased user stays erased, whatever was
// loaded concurrently.
func (r *Ring) cacheKeys(user string, loaded *userKeys) *userKeys {
	r.writing.Lock()
	defer r.writing.Unlock()
	if cached, ok := r.cache.Peek(user); ok && cached.erased {
		return cached
	}
	r.cache.Add(user, loaded)
	return loaded
}

// cachedKeys returns the cached keys of a user, nil if there are none or they expired after [Life].
// That a user was erased does not expire.
func (r *Ring) cachedKeys(user string) *userKeys {
	cached, ok := r.cache.Get(user)
	if !ok {
		return nil
	}
	life := Life
	if slices.ContainsFunc(cached.keys, (*dataKey).damaged) {
		life = damagedLife
	}
	if cached.erased || r.now().Sub(cached.at) < life {
		return cached
	}
	return nil
}

// userKeys returns the keys of a user, from the cache or from the store.
func (r *Ring) userKeys(ctx context.Context, user string) (*userKeys, error) {
	if cached := r.cachedKeys(user); cached != nil {
		return cached, nil
	}
	return r.loadKeys(ctx, user)
}

// MissingError is an [ErrMissing], and says for how long this process has missed the key.
type MissingError struct {
	For     time.Duration
	Damaged bool // it is here, but damaged: another region's copy may replace it
}

func (e *MissingError) Error() string {
	if e.Damaged {
		return "data key is damaged in this region and not yet copied from another one"
	}
	return ErrMissing.Error()
}

// Is reports whether target is ErrMissing.
func (*MissingError) Is(target error) bool { return target == ErrMissing }

// missedKey names a key that was waited for in vain.
type missedKey struct {
	user string
	id   ID
}

// waitForKey returns the keys of a user once one has the id, or the user was erased. A key that is damaged is
// as good as missing. It waits for one key until end once; after that it only loads the keys again.
func (r *Ring) waitForKey(ctx context.Context, user string, id ID, end time.Time) (*userKeys, error) {
	k, err := r.userKeys(ctx, user)
	since, missed := r.missed.Get(missedKey{user, id})
	for tries := 0; err == nil && !k.erased && !k.readable(id); tries++ {
		if tries == 0 {
			r.repair(user)
		}
		switch {
		case missed && tries > 0, !r.now().Before(end):
			if !missed {
				since = r.now()
				r.missed.Add(missedKey{user, id}, since)
			}
			return nil, &MissingError{r.now().Sub(since), k.find(id) != nil}
		case !missed:
			if err := events.Sleep(ctx, missingPoll); err != nil {
				return nil, errors.Join(ErrMissing, err)
			}
		}
		k, err = r.loadKeys(ctx, user)
	}
	return k, err
}

func (r *Ring) repair(user string) {
	if r.Repair != nil {
		r.Repair(user)
	}
}

// sealKey returns the key to seal a user's content with. It creates one if the user has none that can
// be used.
func (r *Ring) sealKey(ctx context.Context, user string) (*dataKey, error) {
	k, err := r.userKeys(ctx, user)
	for err == nil && !k.erased && k.usable() == nil {
		if err = r.createKey(ctx, user); err == nil {
			k, err = r.loadKeys(ctx, user)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case k.erased:
		return nil, ErrErased
	default:
		return k.usable(), nil
	}
}

// createKey adds the first key of a user. Concurrent calls in this process create one.
func (r *Ring) createKey(ctx context.Context, user string) error {
	_, err, _ := r.calls.Do("create "+user, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		k, err := r.readKeys(ctx, user)
		if err != nil || k.erased || k.usable() != nil {
			return nil, err // another process was first
		}
		wrapped, err := r.wrapper.Wrap(ctx, user, random(keySize))
		if err != nil {
			return nil, err
		}
		return nil, r.store.Add(ctx, user, Wrapped{ID(random(len(ID{}))), wrapped})
	})
	return err
}

// loadKeys loads a user's keys from the store into the cache. Concurrent calls share one load. A call
// whose context ends returns; the load goes on for the others.
func (r *Ring) loadKeys(ctx context.Context, user string) (*userKeys, error) {
	loading := r.calls.DoChan("load "+user, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		return r.readKeys(ctx, user)
	})
	select {
	case result := <-loading:
		k, _ := result.Val.(*userKeys)
		return k, result.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *Ring) readKeys(ctx context.Context, user string) (*userKeys, error) {
	at := r.now() // before the load: keys that are destroyed during it expire in time
	stored, err := r.store.Load(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	k := &userKeys{erased: stored.Erased, at: at}
	if !k.erased {
		if k.keys, err = r.unwrapKeys(ctx, user, stored.Wrapped); err != nil {
			return nil, err
		}
	}
	return r.cacheKeys(user, k), nil
}

// unwrapKeys unwraps keys, in the order of their ids. A cached key is not unwrapped again. A key that
// is damaged takes the others not down: only what was sealed with it cannot be opened.
func (r *Ring) unwrapKeys(ctx context.Context, user string, wrapped []Wrapped) ([]*dataKey, error) {
	cached, _ := r.cache.Peek(user)
	keys := make([]*dataKey, len(wrapped))
	for i, w := range wrapped {
		if cached != nil {
			keys[i] = cached.find(w.ID)
		}
		if keys[i] != nil && !keys[i].damaged() {
			continue
		}
		bytes, err := r.wrapper.Unwrap(ctx, user, w.Bytes)
		if err == nil {
			keys[i], err = newDataKey(w.ID, bytes)
		}
		switch {
		case errors.Is(err, ErrDamaged):
			keys[i] = &dataKey{id: w.ID}
		case err != nil:
			return nil, err
		}
	}
	slices.SortFunc(keys, func(a, b *dataKey) int { return bytes.Compare(a.id[:], b.id[:]) })
	return keys, nil
}
