package client

import "time"

const (
	shortLife   = 10 * time.Second // of a socket: if it ends before, something may be wrong with sockets
	partialRest = 5 * time.Second  // from sockets, while an event is fetched that did not fit into a frame
	// The pauses from sockets where they do not work: a minute, and ever longer.
	firstRest, longestRest = time.Minute, 30 * time.Minute
)

// sockets decides whether to use one. Where two in a row did not open, or ended soon, although the
// API answers, long polls are used for a while.
type sockets struct {
	off      bool // they are not wanted
	failures int  // in a row
	suspect  bool // the last one ended soon: it or its region is at fault
	until    time.Time
}

// wanted reports whether to try a socket now.
func (s *sockets) wanted() bool { return !s.off && s.resting() <= 0 }

// resting is how long not to try one.
func (s *sockets) resting() time.Duration {
	if s.off {
		return time.Hour
	}
	return time.Until(s.until)
}

func (s *sockets) rest(d time.Duration) { s.until = time.Now().Add(d) }

// excuse says that the region was at fault.
func (s *sockets) excuse() { s.suspect = false }

// judge says that the region answers: if the last socket failed, sockets do.
func (s *sockets) judge() {
	if !s.suspect {
		return
	}
	s.suspect = false
	if s.failures++; s.failures > 1 {
		s.rest(backoff(s.failures-1, firstRest, longestRest))
	}
}
