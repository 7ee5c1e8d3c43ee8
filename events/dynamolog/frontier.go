package dynamolog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"parley/events"
)

// A stream is a forest of shards. A closed shard continues in its children: usually one, two if it was
// split. The records of one item are in one shard and continue in one of its children. So the order
// of an item's records requires that a shard is read to its end before its children.

// listed is a shard as DescribeStream lists it.
type listed struct {
	id     string
	parent string // "" if it never had one
	first  string // the sequence number at which it begins
	last   string // the sequence number at which it ends; "" while it is open
}

// listing holds the shards that DescribeStream lists. A shard is removed some time after its last
// record was trimmed, parents before children. A new shard may be added late.
type listing struct {
	shards []listed
	byID   map[string]listed
	parent map[string]bool // the ids of shards with a listed child
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

// followed reports whether a shard is known to be closed and has a listed child.
func (l listing) followed(id string) bool { return l.byID[id].last != "" && l.parent[id] }

// place is the checkpoint of one shard.
type place struct {
	kind     kind
	sequence string // of the last record read, for upTo
}

type kind byte

const (
	atOldest kind = iota + 1 // nothing read; its first records may have been trimmed
	atFirst                  // nothing read; its first record must come next
	upTo                     // read up to a record
	finished                 // read to its end
	skipped                  // trimmed as a whole before it was read; first records of its children may be, too
)

// done reports whether the shard has no more records to read.
func (p place) done() bool { return p.kind == finished || p.kind == skipped }

// member is a shard of a frontier.
type member struct {
	id string
	at place
}

// frontier is the checkpoint of a stream. Every shard is a member, or an ancestor of a member and
// finished, or a descendant of one and not read. The zero frontier is the beginning. A member that is
// done is needed only until a child of it is a member.
//
// The members are in the order in which they are read next: the one read last is the last.
type frontier struct {
	members []member
}

// index finds a member, or returns -1.
func (f *frontier) index(id string) int {
	return slices.IndexFunc(f.members, func(m member) bool { return m.id == id })
}

// has reports whether a member has not changed.
func (f *frontier) has(m member) bool { return slices.Contains(f.members, m) }

// put sets the place of a member, which it adds if necessary.
func (f *frontier) put(id string, at place) {
	if i := f.index(id); i >= 0 {
		f.members[i].at = at
		return
	}
	f.members = append(f.members, member{id, at})
}

// readable returns the members that may be read now, in order.
func (f *frontier) readable() []member {
	var open []member
	for _, m := range f.members {
		if !m.at.done() {
			open = append(open, m)
		}
	}
	return open
}

// read sets that a member was read up to a record, and makes it the last member.
func (f *frontier) read(id, sequence string) {
	i := f.index(id)
	f.members = append(slices.Delete(f.members, i, i+1), member{id, place{upTo, sequence}})
}

// finish sets that a member was read to its end.
func (f *frontier) finish(id string) {
	i := f.index(id)
	if f.members[i].at.kind == atOldest {
		f.members[i].at = place{kind: skipped}
	} else {
		f.members[i].at = place{kind: finished}
	}
}

// join updates the frontier from a listing: members without more records are finished, and the
// children of finished members become members. It returns the orphans: shards without a parent, or
// with a parent that is neither listed nor a member. Then the listing is incomplete, or the shards
// between them and the members were trimmed.
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
		case parent != 0 || parentListed: // read after its parent
		case begins:
			f.put(s.id, place{kind: atOldest})
		default:
			orphans = append(orphans, s)
		}
	}
	f.dropDone(l)
	return orphans
}

// before returns the ancestors of the members.
func (f *frontier) before(l listing) map[string]bool {
	before := make(map[string]bool)
	for _, m := range f.members {
		for id := l.byID[m.id].parent; id != "" && !before[id]; id = l.byID[id].parent {
			before[id] = true
		}
	}
	return before
}

// dropDone removes members that are done and no longer needed: a descendant is a member, or the shard
// was trimmed as a whole and is no longer listed.
func (f *frontier) dropDone(l listing) {
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

// afterLoss returns the frontier to resume from after records were lost. The shard that lost them, if
// known, and orphans resume at their oldest record.
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

// compareSequences compares two sequence numbers of one shard.
func compareSequences(a, b string) int { return events.Number(a).Compare(events.Number(b)) }

// ErrOtherStream: the checkpoint belongs to another stream: of another table, or of an earlier stream
// of this table, before the stream was disabled or the table was deleted. It wraps
// [events.ErrCheckpoint].
var ErrOtherStream = fmt.Errorf("%w: it belongs to another stream", events.ErrCheckpoint)

// A checkpoint is a frontier in text:
//
//	s1/<stream>/<shard>=<place>,<shard>=<place>…
//
// with the members in their order. The shard of the record it belongs to is last, so the checkpoints
// of a batch differ only in the number at the end. With one open shard, the usual case, it has 81
// bytes.
//
// Stream is 16 hex digits, the first 8 bytes of the SHA-256 of the stream's region and ARN.
const checkpointVersion = "s1"

// The texts of places without a sequence number.
var placeWords = map[kind]string{atOldest: "oldest", atFirst: "first", finished: "done", skipped: "gone"}

// streamIdentity returns a stream's name in checkpoints. It includes the region, because DynamoDB Local
// gives streams of different regions one ARN if they were created in the same millisecond.
func streamIdentity(region, arn string) string {
	sum := sha256.Sum256([]byte(region + " " + arn))
	return hex.EncodeToString(sum[:8])
}

// encode returns the checkpoint of a frontier of a stream.
func (f *frontier) encode(stream string) string {
	var text strings.Builder
	text.WriteString(checkpointVersion + "/" + stream + "/")
	for i, m := range f.members {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(m.id + "=" + m.at.encode())
	}
	return text.String()
}

func (p place) encode() string {
	if p.kind == upTo {
		return p.sequence
	}
	return placeWords[p.kind]
}

// decodeFrontier reverses encode. It accepts no other text: each frontier has one encoding.
func decodeFrontier(checkpoint, stream string) (frontier, error) {
	var f frontier
	version, rest, _ := strings.Cut(checkpoint, "/")
	of, members, ok := strings.Cut(rest, "/")
	if !ok || version != checkpointVersion {
		return f, events.ErrCheckpoint
	}
	for i, text := range strings.Split(members, ",") {
		id, at, _ := strings.Cut(text, "=")
		place, err := decodePlace(at)
		if err != nil || !validShard(id) || f.index(id) >= 0 {
			return frontier{}, fmt.Errorf("%w: invalid shard %d", events.ErrCheckpoint, i+1)
		}
		f.put(id, place)
	}
	if of != stream {
		return frontier{}, ErrOtherStream
	}
	return f, nil
}

func decodePlace(text string) (place, error) {
	for kind, word := range placeWords {
		if text == word {
			return place{kind: kind}, nil
		}
	}
	if !validSequence(text) {
		return place{}, events.ErrCheckpoint
	}
	return place{upTo, text}, nil
}

// validSequence reports whether a text is a sequence number: 1 to 40 digits.
func validSequence(text string) bool {
	return text != "" && len(text) <= 40 && strings.Trim(text, "0123456789") == ""
}

// validShard reports whether a shard's id can be part of a checkpoint. Ids have 28 to 65 characters,
// for example "shardId-00000001795476538855-7a94a7ce".
func validShard(id string) bool {
	return id != "" && len(id) <= 65 && !strings.ContainsAny(id, "/,=")
}
