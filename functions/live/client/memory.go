package client

import (
	"bytes"
	"hash/maphash"
	"strconv"

	"parley/events"
)

// remembered is how many events a client remembers as told, the last of them: about 5 MB. A region
// never goes further back than over its last 50,000 arrivals, else it says reset.
const remembered = 50_000

// verdict says what an event is to somebody who remembers others.
type verdict int

const (
	fresh    verdict = iota // never told
	repeat                  // told, and it said the same
	replaced                // told under its id, with other content
)

// eventKey tells events apart. An id alone does not: its author may use it in two streams.
type eventKey struct {
	id     events.ID
	stream uint64 // a hash of its name, under a seed that nobody else knows
}

// memory remembers which events were told. It is bounded: beyond that the oldest are forgotten.
type memory struct {
	most    int
	seed    maphash.Seed
	digests map[eventKey]uint64
	order   []eventKey // as they were remembered; a ring once it is full
	oldest  int
}

// unknownContent is the digest of an event that came without its data.
const unknownContent = 0

func newMemory(most int) *memory {
	return &memory{most: most, seed: maphash.MakeSeed(), digests: map[eventKey]uint64{}}
}

// judge says what an event is, and under which key and digest to remember it once it was told.
func (m *memory) judge(h happened) (verdict, eventKey, uint64) {
	key := eventKey{h.event.ID, maphash.String(m.seed, string(h.event.Stream))}
	digest := m.digest(h)
	seen, ok := m.digests[key]
	switch {
	case !ok:
		return fresh, key, digest
	case seen == digest, seen == unknownContent, digest == unknownContent:
		return repeat, key, seen
	default:
		return replaced, key, digest
	}
}

// remember notes that an event was told, and forgets the oldest one if there are too many.
func (m *memory) remember(key eventKey, digest uint64) {
	_, known := m.digests[key]
	m.digests[key] = digest
	switch {
	case known:
	case len(m.order) < m.most:
		m.order = append(m.order, key)
	default:
		delete(m.digests, m.order[m.oldest])
		m.order[m.oldest] = key
		m.oldest = (m.oldest + 1) % m.most
	}
}

// digest is what an event says, in 64 bits. The region that accepted it does not count: two may
// have accepted the same.
func (m *memory) digest(h happened) uint64 {
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

// plain gives data one spelling, whichever encoder it came through.
func plain(data []byte) []byte {
	if !bytes.Contains(data, []byte(`\u`)) {
		return data
	}
	for _, e := range htmlEscapes {
		data = bytes.ReplaceAll(data, e.escaped, e.plain)
	}
	return data
}
