package main

import "sync"

// arrivals wakes those who wait for something to arrive in a region.
type arrivals struct {
	mu   sync.Mutex
	more chan struct{} // closed at the next arrival; nil while nobody waits
}

// next returns a channel that is closed at the next arrival.
func (a *arrivals) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.more == nil {
		a.more = make(chan struct{})
	}
	return a.more
}

// tell wakes all who wait.
func (a *arrivals) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.more != nil {
		close(a.more)
		a.more = nil
	}
}
