package dynamolog

import (
	"cmp"
	"slices"
	"strings"
)

// A stream is a forest of shards: a shard that is closed goes on in its children, usually one,
// two where it was split. What concerns one item is in one shard, and goes on in one of its
// children. So per item order wants one thing: a shard is read to its end before its children.

// listed is a shard as the stream lists it.
type listed struct {
	id     string
	parent string // "" if it never had one
	first  string // the sequence number at which it begins
	last   string // the sequence number at which it ends; "" while it is open
}

// listing is what the stream lists. A shard leaves it some time after its last record was
// trimmed, parents before children; a new one may come into it late.
type listing struct {
	shards []listed
	byID   map[string]listed
	parent map[string]bool // of whom a child is listed
}

// newListing indexes shards.
func newListing(shards []listed) listing {
	l := listing{shards: shards, byID: make(map[string]listed, len(shards)), parent: make(map[string]bool, len(shards))}
	for _, s := range shards {
		l.byID[s.id] = s
		l.parent[s.parent] = true
	}
	return l
}

// followed reports whether a shard is known to be closed and to go on in others.
func (l listing) followed(id string) bool { return l.byID[id].last != "" && l.parent[id] }

// place is how far a shard has been read.
type place struct {
	kind     kind
	sequence string // of the last record that was read, for upTo
}

type kind byte

const (
	atOldest kind = iota + 1 // nothing yet; it need not have its first records any more
	atFirst                  // nothing yet; its first record is to come next
	upTo                     // up to a record
	finished                 // to its end
	skipped                  // to its end, but nothing was left of it: of its children more may be gone
)

// done reports whether nothing more is to come from there.
func (p place) done() bool { return p.kind == finished || p.kind == skipped }

// member is a shard of a frontier.
type member struct {
	id string
	at place
}

// frontier is how far a stream has been read. Every shard is either a member, or comes before a
// member, then it is finished, or comes after one, then nothing of it has been read. The zero
// frontier is the beginning. A frontier needs a member that is done only until a child of it is
// a member.
//
// The members stand in turn: what was read last stands last.
type frontier struct {
	members []member
}

// index finds a member, or returns -1.
func (f *frontier) index(id string) int {
	return slices.IndexFunc(f.members, func(m member) bool { return m.id == id })
}

// has reports whether a member is still where it was.
func (f *frontier) has(m member) bool { return slices.Contains(f.members, m) }

// put sets the place of a member, a new one if need be.
func (f *frontier) put(id string, at place) {
	if i := f.index(id); i >= 0 {
		f.members[i].at = at
		return
	}
	f.members = append(f.members, member{id, at})
}

// readable returns the members that may be read now, in turn.
func (f *frontier) readable() []member {
	var open []member
	for _, m := range f.members {
		if !m.at.done() {
			open = append(open, m)
		}
	}
	return open
}

// read notes that a member was read up to a record. It goes to the end of the turn.
func (f *frontier) read(id, sequence string) {
	i := f.index(id)
	f.members = append(slices.Delete(f.members, i, i+1), member{id, place{upTo, sequence}})
}

// finish notes that a member was read to its end.
func (f *frontier) finish(id string) {
	i := f.index(id)
	if f.members[i].at.kind == atOldest {
		f.members[i].at = place{kind: skipped}
	} else {
		f.members[i].at = place{kind: finished}
	}
}

// join takes in a listing: members that have nothing left are finished, and the children of
// those that are finished become members. It returns the shards it cannot place, because they
// have no parent or one that nothing is known of: the listing is not complete, or what stood
// between them and the members has been trimmed.
func (f *frontier) join(l listing) (orphans []listed) {
	begins := len(f.members) == 0
	known := make(map[string]kind, len(f.members))
	for i, m := range f.members {
		if last := l.byID[m.id].last; m.at.kind == upTo && last != "" && compareSequences(m.at.sequence, last) >= 0 {
			f.members[i].at = place{kind: finished}
		}
		known[m.id] = f.members[i].at.kind
	}
	before := f.before(l)
	for _, s := range l.shards {
		if known[s.id] != 0 || before[s.id] {
			continue
		}
		parent := known[s.parent]
		_, parentListed := l.byID[s.parent]
		switch {
		case parent == skipped:
			f.put(s.id, place{kind: atOldest})
		case parent == finished || before[s.parent]:
			f.put(s.id, place{kind: atFirst})
		case parent != 0 || parentListed: // it waits for its parent
		case begins:
			f.put(s.id, place{kind: atOldest})
		default:
			orphans = append(orphans, s)
		}
	}
	f.drop(l)
	return orphans
}

// before returns the shards that come before a member.
func (f *frontier) before(l listing) map[string]bool {
	before := make(map[string]bool)
	for _, m := range f.members {
		for id := l.byID[m.id].parent; id != "" && !before[id]; id = l.byID[id].parent {
			before[id] = true
		}
	}
	return before
}

// drop forgets members that are done and no longer needed: a child is a member, or there was
// nothing left of it and it is not even listed.
func (f *frontier) drop(l listing) {
	before := f.before(l)
	var kept []member
	for _, m := range f.members {
		_, isListed := l.byID[m.id]
		gone := m.at.kind == skipped && !isListed && !l.parent[m.id] && len(f.members) > 1
		if !gone && !(m.at.done() && before[m.id]) {
			kept = append(kept, m)
		}
	}
	f.members = kept
}

// afterLoss returns where to go on after something was lost: in the shard of which it was, if
// that is known, and in those that nothing is known of, with the oldest there is.
func (f *frontier) afterLoss(l listing, lost string) frontier {
	var next frontier
	for _, m := range f.members {
		_, isListed := l.byID[m.id]
		switch {
		case m.id == lost:
			next.put(m.id, place{kind: atOldest})
		case isListed || !m.at.done():
			next.put(m.id, m.at)
		}
	}
	for _, orphan := range next.join(l) {
		next.put(orphan.id, place{kind: atOldest})
	}
	return next
}

// compareSequences compares two sequence numbers of one shard: decimal numbers of up to 40
// digits, see the API reference of DynamoDB Streams.
func compareSequences(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
