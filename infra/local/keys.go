package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/events/keys"
)

const rootFile = "root.key"

// openRoot reads the root key in the data folder, or makes it: it wraps the data keys of all users.
func openRoot(data string) (keys.Wrapper, error) {
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // never fails
	name := filepath.Join(data, rootFile)
	if err := writeOnce(name, []byte(hex.EncodeToString(fresh)+"\n")); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the root key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: put it back from a copy, for without it nobody can read a message", name)
	}
	return keys.NewRoot(key)
}

// checkRoot refuses a root key that is not the one the data keys were wrapped with.
func checkRoot(ctx context.Context, root keys.Wrapper, store keys.Store) error {
	for user, err := range store.Users(ctx) {
		if err != nil {
			return err
		}
		got, err := store.Load(ctx, user)
		if err != nil {
			return err
		}
		if len(got.Wrapped) == 0 {
			continue
		}
		if _, err := root.Unwrap(ctx, user, got.Wrapped[0].Bytes); err != nil {
			return fmt.Errorf("the users' keys were made with another %s: put that one back, for without it nobody can read a message", rootFile)
		}
		return nil
	}
	return nil
}

// toldKeys are a region's keys that tell of each change, so that it is replicated.
type toldKeys struct {
	keys.Store
	tell func(user string)
}

// Add implements [keys.Store].
func (k *toldKeys) Add(ctx context.Context, user string, key keys.Wrapped) error {
	err := k.Store.Add(ctx, user, key)
	k.tell(user) // after an error it may have happened, too
	return err
}

// Erase implements [keys.Store].
func (k *toldKeys) Erase(ctx context.Context, user string) error {
	err := k.Store.Erase(ctx, user)
	k.tell(user)
	return err
}

// keyFlow replicates one region's keys to one other, as a global table does: late, and not at all
// while either end is isolated. At its start it goes through all keys, so that what was under way
// at a crash is not lost.
type keyFlow struct {
	from, to       string
	source, target keys.Store
	network        *network
	lag            time.Duration
	log            *slog.Logger

	mu      sync.Mutex
	pending map[string]bool // users of whom something has changed
	wake    chan struct{}   // holds one while something is pending
}

func newKeyFlow(from, to *region, network *network, lag time.Duration) *keyFlow {
	return &keyFlow{
		from: from.name, to: to.name, source: from.store.keys, target: to.store.keys,
		network: network, lag: lag, log: from.logger, pending: map[string]bool{}, wake: make(chan struct{}, 1),
	}
}

// changed takes note of a user of whom something has changed.
func (f *keyFlow) changed(user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending[user] = true
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take takes out the users that are pending.
func (f *keyFlow) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	users := slices.Collect(maps.Keys(f.pending))
	clear(f.pending)
	return users
}

// run replicates until ctx ends.
func (f *keyFlow) run(ctx context.Context) {
	for user, err := range f.source.Users(ctx) {
		if err != nil {
			f.warn(ctx, err)
			break
		}
		f.changed(user)
	}
	for failed := 0; ; {
		select {
		case <-f.wake:
		case <-ctx.Done():
			return
		}
		pause(ctx, f.lag/2) // as the fastest of the events that it opens
		f.network.await(ctx, f.from, f.to)
		failed++
		if f.copyAll(ctx, f.take()) {
			failed = 0
			continue
		}
		pause(ctx, min(10*time.Millisecond<<min(failed, 20), 5*time.Second))
	}
}

// copyAll copies what there is of users, and reports whether nothing is left to do again.
func (f *keyFlow) copyAll(ctx context.Context, users []string) bool {
	done := true
	for _, user := range users {
		passed, err := f.network.pass(f.from, f.to, func() error { return f.copy(ctx, user) })
		if err != nil {
			f.warn(ctx, err)
		}
		if !passed || err != nil {
			done = false
			f.changed(user)
		}
	}
	return done
}

// copy brings to the target what the source has of a user and the target has not.
func (f *keyFlow) copy(ctx context.Context, user string) error {
	from, err := f.source.Load(ctx, user)
	if err != nil {
		return err
	}
	to, err := f.target.Load(ctx, user)
	switch {
	case err != nil:
		return err
	case from.Erased && to.Erased && len(to.Wrapped) == 0:
		return nil
	case from.Erased:
		return f.target.Erase(ctx, user)
	}
	for _, key := range from.Wrapped {
		if slices.ContainsFunc(to.Wrapped, func(k keys.Wrapped) bool { return k.ID == key.ID }) {
			continue
		}
		if err := f.target.Add(ctx, user, key); err != nil && !errors.Is(err, keys.ErrErased) {
			return err
		}
	}
	return nil
}

func (f *keyFlow) warn(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.log.WarnContext(ctx, "replication of keys failed; it will be tried again", "from", f.from, "to", f.to, "error", err)
	}
}
