package awstest

import (
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
)

// Fleet plays Lambda for a function that runs in several processes at a time. Which of them an
// invocation gets is random, so that none may rely on what it did before.
type Fleet struct {
	functions []*Function

	mu   sync.Mutex
	rng  *rand.Rand
	free []*Function
	wait *sync.Cond
}

// NewFleet returns a fleet of at most n processes of a binary. They start when they are first needed.
func NewFleet(t testing.TB, binary string, env []string, n int, seed uint64) *Fleet {
	t.Helper()
	f := &Fleet{rng: rand.New(rand.NewPCG(seed, 0))}
	f.wait = sync.NewCond(&f.mu)
	for range n {
		f.functions = append(f.functions, NewFunction(t, binary, env))
	}
	f.free = append(f.free, f.functions...)
	return f
}

// Take waits until a process is free and returns one of the free ones, chosen at random. It belongs
// to the caller until Return.
func (f *Fleet) Take() *Function {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.free) == 0 {
		f.wait.Wait()
	}
	i := f.rng.IntN(len(f.free))
	taken := f.free[i]
	f.free[i] = f.free[len(f.free)-1]
	f.free = f.free[:len(f.free)-1]
	return taken
}

// Return makes a process free again.
func (f *Fleet) Return(taken *Function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = append(f.free, taken)
	f.wait.Signal()
}

// Functions returns all of the fleet, for their output and the number of their starts.
func (f *Fleet) Functions() []*Function { return f.functions }

// Pause stops the process where it is, as a machine that hangs, until Resume or Kill. An invocation
// under way goes on then, however long ago Lambda has given it up.
func (f *Function) Pause() { f.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (f *Function) Resume() { f.signal(syscall.SIGCONT) }

func (f *Function) signal(s syscall.Signal) {
	if p := f.process.Load(); p != nil {
		_ = p.cmd.Process.Signal(s) // it may have ended
	}
}
