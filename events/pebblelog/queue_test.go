package pebblelog

import (
	"testing"
	"testing/synctest"
	"time"
)

// takes is a queue whose commits are taken one after the other.
type takes struct {
	queue
	sizes chan int // of the commits
}

// newTakes begins to take; each commit is done at once.
func newTakes(t *testing.T) *takes {
	q := &takes{sizes: make(chan int, 100)}
	q.init()
	go func() {
		for requests := q.take(); requests != nil; requests = q.take() {
			q.sizes <- len(requests)
		}
		close(q.sizes)
	}()
	t.Cleanup(func() { q.close(ErrClosed) })
	return q
}

// add puts n requests, each of one write.
func (q *takes) add(t *testing.T, n int, replica bool) {
	t.Helper()
	requests := make([]*request, n)
	for i := range requests {
		requests[i] = newRequest([]*write{{replica: replica}})
	}
	if err := q.put(requests...); err != nil {
		t.Fatal(err)
	}
}

// wants fails unless the next commit has n requests and begins after a time.
func (q *takes) wants(t *testing.T, n int, after time.Duration) {
	t.Helper()
	start := time.Now()
	if size := <-q.sizes; size != n || time.Since(start) != after {
		t.Fatalf("a commit of %d after %v, not of %d after %v", size, time.Since(start), n, after)
	}
}

// TestLinger shows that a commit waits for as many appends as came last, but not long, and never
// where each caller is alone.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTakes(t)
		q.add(t, 1, false)
		q.wants(t, 1, 0)
		q.add(t, 1, false)
		q.wants(t, 1, 0)
		q.add(t, 3, false)
		q.wants(t, 3, 0)

		q.add(t, 1, false)
		time.AfterFunc(linger/2, func() { q.add(t, 2, false) })
		q.wants(t, 3, linger/2)

		q.add(t, 1, false)
		q.wants(t, 1, linger)
		q.add(t, 1, false)
		q.wants(t, 1, 0)
	})
}

// TestLingerReplicas shows that replicas are not waited for, and wait for appends.
func TestLingerReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTakes(t)
		q.add(t, 5, true)
		q.wants(t, 5, 0)
		q.add(t, 1, false)
		q.wants(t, 1, 0)
		q.add(t, 2, true)
		q.wants(t, 2, linger)
		q.add(t, 2, true)
		q.wants(t, 2, 0)
	})
}
