package client

import (
	"bytes"
	"hash/maphash"
	"slices"
	"strconv"
	"time"

	"parley/events"
)

const (
	// dedupSize is how many delivered events a client deduplicates by at least: about 5 MB.
	dedupSize = 50_000
	// dedupMost is how many it is at most, about 50 MB, of a client that receives very many.
	dedupMost = 500_000
	// dedupFor is how long before its cursor events are remembered: another region delivers again what
	// arrived 15 minutes before, whenever the client comes there.
	dedupFor = 20 * time.Minute
)

// verdict is what an event is, compared with those delivered before.
type verdict int

const (
	fresh     verdict = iota // not delivered yet
	duplicate                // delivered, with the same content
)

// eventKey is the id of an event within its stream: its author may use it in two streams.
type eventKey struct {
	id     events.ID
	stream uint64 // a hash of its name, under a secret seed
}

// dedup holds which events were delivered. It is bounded: beyond that the oldest are dropped, first of
// all those that were delivered long before the cursor.
type dedup struct {
	least   int
	most    int
	seed    maphash.Seed
	digests map[eventKey]uint64
	further map[eventKey][]uint64 // of events that share the id: regions accepted different ones
	order   []delivered           // in the order of delivery
	oldest  time.Time             // what was delivered before may be dropped
}

// delivered is when an event was.
type delivered struct {
	key eventKey
	at  int64 // Unix seconds
}

// unknownContent is the digest of an event that came without its data.
const unknownContent = 0

func newDedup(least, most int) *dedup {
	return &dedup{least: least, most: most, seed: maphash.MakeSeed(), digests: map[eventKey]uint64{}, further: map[eventKey][]uint64{}}
}

// judge returns what an event is, and the key and digest to remember it by once it is delivered.
func (m *dedup) judge(h happened) (verdict, eventKey, uint64) {
	key := eventKey{h.event.ID, maphash.String(m.seed, string(h.event.Stream))}
	digest := m.digest(h)
	seen, ok := m.digests[key]
	switch {
	case !ok:
		return fresh, key, digest
	case seen == digest, digest == unknownContent, slices.Contains(m.further[key], digest):
		return duplicate, key, digest
	default:
		return fresh, key, digest
	}
}

// remember adds a delivered event, and drops the oldest ones if there are too many.
func (m *dedup) remember(key eventKey, digest uint64) {
	if seen, known := m.digests[key]; known {
		if seen != digest {
			m.further[key] = append(m.further[key], digest)
		}
		return
	}
	m.digests[key] = digest
	m.order = append(m.order, delivered{key, time.Now().Unix()})
	for len(m.order) > m.most || len(m.order) > m.least && m.order[0].at < m.oldest.Unix() {
		delete(m.digests, m.order[0].key)
		delete(m.further, m.order[0].key)
		m.order = m.order[1:]
	}
}

// complete notes that the client has a new cursor, before which nothing is missing. In the middle of a
// catch-up, where some rooms are ahead of others, it has none.
func (m *dedup) complete() { m.oldest = time.Now().Add(-dedupFor) }

// digest hashes the content of an event. The region that accepted it is not part of it: two regions
// may have accepted the same event.
func (m *dedup) digest(h happened) uint64 {
	if h.partial {
		return unknownContent
	}
	e := h.event
	var hash maphash.Hash
	hash.SetSeed(m.seed)
	_, _ = hash.WriteString(e.Type + "/" + strconv.Itoa(e.Version) + "/" + e.Actor + "/")
	_, _ = hash.Write(plain(e.Data))
	return max(hash.Sum64(), unknownContent+1)
}

// htmlEscapes are characters that encoders of JSON may or may not escape.
var htmlEscapes = []struct{ escaped, plain []byte }{
	{[]byte(`\u003c`), []byte("<")},
	{[]byte(`\u003e`), []byte(">")},
	{[]byte(`\u0026`), []byte("&")},
	{[]byte(`\u2028`), []byte("\u2028")},
	{[]byte(`\u2029`), []byte("\u2029")},
}

// plain undoes the escapes that encoders of JSON choose differently.
func plain(data []byte) []byte {
	if !bytes.Contains(data, []byte(`\u`)) {
		return data
	}
	for _, e := range htmlEscapes {
		data = bytes.ReplaceAll(data, e.escaped, e.plain)
	}
	return data
}
