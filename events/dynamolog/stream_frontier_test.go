package dynamolog

import (
	"testing"

	"pgregory.net/rapid"
)

// No shard is read before its parent is finished, none is forgotten, every record comes exactly
// once, from any checkpoint, however shards are split and however late they are listed.
func TestStreamFrontier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, r := newModel(t)
		t.Repeat(actions(m, r))
		drain(t, m, r)
		if r.losses > 0 {
			t.Fatalf("the reader believes %d times that something was lost", r.losses)
		}
	})
}

// The same while records are trimmed: the reader never skips any unknowingly.
func TestStreamFrontierTrimmed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, r := newModel(t)
		all := actions(m, r)
		all["trim"] = func(t *rapid.T) { m.trim(rapid.IntRange(0, m.last).Draw(t, "up to")) }
		all["purge"] = func(t *rapid.T) {
			for _, s := range m.shards {
				m.purge(s, rapid.Bool().Draw(t, "forget"))
			}
		}
		t.Repeat(all)
		drain(t, m, r)
	})
}

func newModel(t *rapid.T) (*modelStream, *modelReader) {
	m := &modelStream{}
	for range rapid.IntRange(1, 3).Draw(t, "shards") {
		m.open(nil, false)
	}
	r := &modelReader{stream: m}
	r.snapshots = []snapshot{{"", map[int]bool{}}}
	r.resume(t, r.snapshots[0])
	return m, r
}

func actions(m *modelStream, r *modelReader) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"write": func(t *rapid.T) {
			s := rapid.SampledFrom(m.openShards()).Draw(t, "shard")
			for range rapid.IntRange(1, 5).Draw(t, "records") {
				m.write(s)
			}
		},
		"split": func(t *rapid.T) {
			s := rapid.SampledFrom(m.openShards()).Draw(t, "shard")
			m.split(s, rapid.SliceOfN(rapid.Bool(), 1, 2).Draw(t, "hidden")...)
		},
		"reveal": func(t *rapid.T) { rapid.SampledFrom(m.shards).Draw(t, "shard").hidden = false },
		"list":   func(t *rapid.T) { r.relist(t) },
		"look": func(t *rapid.T) {
			limit := rapid.IntRange(1, 4).Draw(t, "limit")
			if open := r.state.readable(); len(open) > 0 {
				r.look(t, rapid.SampledFrom(open).Draw(t, "member"), limit)
			}
		},
		"round": func(t *rapid.T) {
			for _, member := range r.state.readable() {
				if r.state.has(member) {
					r.look(t, member, 2)
				}
			}
		},
		"cut": func(t *rapid.T) { r.resume(t, rapid.SampledFrom(r.snapshots).Draw(t, "checkpoint")) },
	}
}

// drain reads all there is. Nothing happens to the stream meanwhile.
func drain(t *rapid.T, m *modelStream, r *modelReader) {
	for _, s := range m.shards {
		s.hidden = false
	}
	losses := r.losses
	for range 2*len(m.shards) + 4 {
		r.relist(t)
		for _, member := range r.state.readable() {
			if r.state.has(member) {
				r.look(t, member, m.last)
			}
		}
	}
	for _, s := range m.shards {
		for _, record := range s.records {
			if record > m.trimmed && !r.seen[record] {
				t.Fatalf("record %d of %s never came; the reader is at %+v of %+v", record, s.id, r.state, r.listing.shards)
			}
		}
	}
	if r.losses > losses+len(m.shards) {
		t.Fatalf("%d losses are told with nothing happening", r.losses-losses)
	}
	if members, shards := len(r.state.members), len(m.openShards()); members != shards {
		t.Fatalf("a frontier of %d members for %d open shards: %+v", members, shards, r.state)
	}
}
