package main

import (
	"context"
	"sync"
)

// network is what lies between the regions. A region can be isolated: then nothing passes to or
// from it.
type network struct {
	mu      sync.RWMutex // held for reading while something passes
	cut     map[string]bool
	changed chan struct{} // closed and made anew when cut changes
}

func newNetwork() *network {
	return &network{cut: map[string]bool{}, changed: make(chan struct{})}
}

// isolate cuts a region off, or heals it. When it returns, nothing passes any more.
func (n *network) isolate(region string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[region] = cut
	close(n.changed)
	n.changed = make(chan struct{})
}

// pass calls f unless one of the two regions is isolated, and reports whether it did.
func (n *network) pass(a, b string, f func() error) (bool, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.cut[a] || n.cut[b] {
		return false, nil
	}
	return true, f()
}

// await waits until neither region is isolated, or ctx ends.
func (n *network) await(ctx context.Context, a, b string) {
	for {
		n.mu.RLock()
		cut, changed := n.cut[a] || n.cut[b], n.changed
		n.mu.RUnlock()
		if !cut {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
