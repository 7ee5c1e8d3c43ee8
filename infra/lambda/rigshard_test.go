package main

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/infra/lambda/awstest"
)

// shard is an event source mapping's view of a shard.
type shard struct {
	*rig
	rng    *rand.Rand
	pace   atomic.Int64 // nanoseconds a record of the last batch took
	resume []func()     // of processes that hang with a batch of this shard

	mu      sync.Mutex
	more    *sync.Cond
	records []awstest.Record
	at      int // those before it are handled
	closed  bool
}

func (s *shard) add(records []awstest.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, records...)
	s.more.Signal()
}

func (s *shard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.more.Signal()
}

// progress returns how many records are handled, and how many are not.
func (s *shard) progress() (handled, left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at, len(s.records) - s.at
}

// run delivers batches, one at a time, until the shard is closed.
func (s *shard) run() {
	for {
		batch := s.next()
		if batch == nil {
			return
		}
		handled := s.deliver(batch)
		s.batches.Add(1)
		s.mu.Lock()
		s.at += handled
		s.mu.Unlock()
	}
}

// next waits for records and returns a batch of any size. A batch that comes again may have another size:
// Lambda splits those that fail, and adds what has come since.
func (s *shard) next() []awstest.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; len(s.records) == s.at || s.closed; s.more.Wait() {
		s.resumeAll()
		if s.closed {
			return nil
		}
	}
	size := 1 + s.rng.IntN([]int{2, 20, 100, s.largest}[s.rng.IntN(4)])
	return s.records[s.at:min(s.at+size, len(s.records))]
}

func (s *shard) resumeAll() {
	for _, resume := range s.resume {
		resume()
	}
	s.resume = nil
}

// What happens to a batch, or to the process that gets it.
const (
	nothing = iota
	kill    // the process is killed at any moment
	hang    // it hangs at any moment, and goes on later
	short   // its time is up at any moment: it reports the first record that it has not handled
	lost    // its answer does not arrive
	cut     // its answer names any record
	cold    // it has just started
	fates
)

// deck deals each of fates once, in random order, and begins again.
type deck struct {
	mu    sync.Mutex
	rng   *rand.Rand
	fates []int
	left  []int
}

// newDeck returns a deck with what happens in 20 batches.
func newDeck(seed uint64) *deck {
	return &deck{rng: rand.New(rand.NewPCG(seed, 0)), fates: []int{kill, kill, hang, hang, short, short, lost, lost, cut, cut, cold, 19: nothing}}
}

func (d *deck) draw() (fate int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.left) == 0 {
		d.left = slices.Clone(d.fates)
		d.rng.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	fate, d.left = d.left[0], d.left[1:]
	return fate
}

// deliver hands a batch to a process and returns how many records, from the first, are not delivered
// again.
func (s *shard) deliver(batch []awstest.Record) (handled int) {
	f := s.fleet.Take()
	// Any moment of a batch like the last one, or a little later.
	moment := time.Duration(1.2 * s.rng.Float64() * float64(s.pace.Load()) * float64(len(batch)))
	if s.rng.IntN(2) == 0 {
		defer s.resumeAll() // while others handle the same batch, or after them
	}
	fate := s.deck.draw()
	if fate == hang {
		select {
		case s.pauses <- struct{}{}:
			return s.hang(f, batch, moment)
		default: // too many hang
		}
	}
	defer s.fleet.Return(f)
	switch fate {
	case kill:
		timer := time.AfterFunc(moment, f.Kill)
		defer timer.Stop()
	case short:
		f.Timeout = moment + moment/3 + time.Millisecond // the last quarter is for the answer
		defer func() { f.Timeout = 0 }()
	case cold:
		f.Stop()
	}
	handled = s.invoke(f, batch)
	switch {
	case fate == lost:
		handled = 0
	case fate == cut:
		handled = min(handled, s.rng.IntN(len(batch)))
	case fate == kill && handled > 0, fate == short && handled == len(batch), fate == hang:
		return handled // in vain
	}
	s.had[fate].Add(1)
	return handled
}

// hang lets the process hang in the middle of the batch. Lambda has no answer in time and delivers the batch
// again, and what the process has begun it ends later.
func (s *shard) hang(f *awstest.Function, batch []awstest.Record, moment time.Duration) (handled int) {
	paused, done := make(chan struct{}), make(chan int, 1)
	pause := time.AfterFunc(moment, func() {
		f.Pause()
		close(paused)
	})
	s.paused.Go(func() {
		done <- s.invoke(f, batch)
		if !pause.Stop() { // it was paused, maybe only now
			<-paused
			f.Resume()
		}
		s.fleet.Return(f)
		<-s.pauses
	})
	select {
	case handled = <-done:
		return handled
	case <-paused:
		s.had[hang].Add(1)
		s.resume = append(s.resume, f.Resume)
		return 0
	}
}

// invoke hands a batch to a process and returns how many records are handled.
func (s *shard) invoke(f *awstest.Function, batch []awstest.Record) int {
	start := time.Now()
	answer, err := f.Invoke(awstest.Payload(s.t, batch))
	if errors.Is(err, awstest.ErrExited) || errors.Is(err, awstest.ErrTimeout) {
		return 0
	}
	if err != nil {
		s.t.Errorf("a batch of %d records: %v", len(batch), err)
		return 0
	}
	failed := awstest.Failed(s.t, answer, batch, awstest.Record.Sequence)
	if len(failed) > 0 {
		s.partial.Add(1)
		return len(batch) - len(failed)
	}
	s.pace.Store(int64(time.Since(start)) / int64(len(batch)))
	return len(batch)
}
