package projections

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"parley/events"
)

// Compared is how far what was built is compared with what is live.
type Compared struct {
	After   Key   `json:"after,omitzero"` // the last view that was scanned
	Scanned bool  `json:"scanned,omitempty"`
	Views   int64 `json:"views"` // how many were scanned, of both generations together
	// Suspects are views that differed when they were scanned, the last of them at Since. Live
	// events reach one generation before the other, so they are compared again later.
	Suspects []Key     `json:"suspects,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	// Differ is how many views of the live generation differ from the log, Healed how many of them
	// were folded again. Findings are the first [MaxFindings].
	Differ   int64     `json:"differ"`
	Healed   int64     `json:"healed,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	// TooMany says that there were too many suspects to compare each again: the rest was counted as
	// scanned, and not healed. Rebuild instead.
	TooMany bool `json:"too_many,omitempty"`
}

// Finding is a view that differs from what the log's events fold to.
type Finding struct {
	Projection string        `json:"projection"`
	Stream     events.Stream `json:"stream"` // its events touch the view
	Key        Key           `json:"key"`    // in the first generation
	Fault      Fault         `json:"fault"`
	Fields     []string      `json:"fields,omitempty"` // that differ
	Healed     bool          `json:"healed,omitempty"`
}

// Fault is what is wrong with a view.
type Fault string

// The faults of views.
const (
	Missing Fault = "missing" // the log has events for it
	Extra   Fault = "extra"   // no event touches it
	Differs Fault = "differs" // in the named fields
	Damaged Fault = "damaged" // cannot be read
)

// MaxFindings is how many findings are listed.
const MaxFindings = 1000

const (
	maxSuspects = 512
	maxHealed   = 10 * MaxFindings
)

// compare compares for a slice. Every view of either generation is scanned once; views that differ
// are compared again later; and what differs still is folded again from the log in the generation
// that is built, so that this one is right whichever was wrong.
func (r *Rebuilder) compare(ctx context.Context, b *Rebuild) error {
	state, err := r.stillBuilt(ctx, b)
	if err != nil {
		return err
	}
	list, err := projectionsNamed(b.Projections)
	if err != nil {
		return err
	}
	pairs := make(map[string]generationPair, len(list))
	for _, p := range list {
		live, built := state.of(p.Name()).Live, b.Numbers[p.Name()]
		pairs[p.Name()] = generationPair{generationOf(p, live), generationOf(p, built), live, built}
	}
	c := &b.Compared
	for until := r.now().Add(r.Slice); ; {
		switch {
		case len(c.Suspects) >= maxSuspects, c.Scanned && len(c.Suspects) > 0:
			passed, err := r.hasPassed(ctx, c.Since, r.Confirm)
			if err != nil || !passed {
				return err
			}
			if err := r.confirmSuspects(ctx, b, pairs); err != nil {
				return err
			}
		case !c.Scanned:
			if err := r.scanPage(ctx, c, pairs); err != nil {
				return err
			}
		case b.Audit:
			b.startDrop()
			return nil
		default:
			b.Phase = Switch
			return nil
		}
		if !r.now().Before(until) {
			return nil
		}
	}
}

// generationPair is the two generations of a projection that are compared.
type generationPair struct {
	live, built Projection
	liveNumber  int
	builtNumber int
}

// scanPage compares the next page of views with their counterparts in the other generation.
func (r *Rebuilder) scanPage(ctx context.Context, c *Compared, pairs map[string]generationPair) error {
	var prefixes []string
	for name, pair := range pairs {
		prefixes = append(prefixes, prefix(pair.liveNumber)+name, prefix(pair.builtNumber)+name)
	}
	page, next, err := r.views.Scan(ctx, prefixes, c.After, r.sizes.page)
	if err != nil {
		return err
	}
	page = slices.DeleteFunc(page, func(v View) bool {
		n, base := splitPartition(v.Key.Partition)
		pair, ok := pairs[ownerOf(base)]
		return !ok || n != pair.liveNumber && n != pair.builtNumber
	})
	others := make([]Key, len(page))
	for i, view := range page {
		n, base := splitPartition(view.Key.Partition)
		pair := pairs[ownerOf(base)]
		other := pair.liveNumber
		if n == other {
			other = pair.builtNumber
		}
		others[i] = Key{prefix(other) + base, view.Key.Sort}
	}
	counterparts, err := getOrdered(ctx, r.views, others)
	if err != nil {
		return err
	}
	suspected := map[Key]bool{} // a view is scanned in one generation, and again in the other
	for _, key := range c.Suspects {
		suspected[key] = true
	}
	for i, view := range page {
		n, base := splitPartition(view.Key.Partition)
		pair, key := pairs[ownerOf(base)], Key{base, view.Key.Sort}
		live, built := view, counterparts[i]
		if n != pair.liveNumber {
			live, built = built, live
			if live.Version > 0 {
				continue // compared when the live one is scanned
			}
		}
		if suspected[key] || pair.same(live, built) {
			continue
		}
		suspected[key] = true
		if c.TooMany {
			c.Differ++
			continue
		}
		c.Suspects, c.Since = append(c.Suspects, key), r.now().UTC()
	}
	c.Views += int64(len(page))
	c.After, c.Scanned = next, next == Key{}
	return nil
}

// minRun is how many views of a partition are better read by a range than by their keys.
const minRun = 8

// getOrdered returns the views of keys, in their order. The keys of one partition stand together
// and ascend: where there are many, they are read by ranges.
func getOrdered(ctx context.Context, store Views, keys []Key) ([]View, error) {
	views := make([]View, len(keys))
	var single []Key
	var at []int
	for i := 0; i < len(keys); {
		end := i
		for end < len(keys) && keys[end].Partition == keys[i].Partition {
			end++
		}
		if end-i < minRun {
			for ; i < end; i++ {
				single, at = append(single, keys[i]), append(at, i)
			}
			continue
		}
		if err := getRun(ctx, store, keys[i:end], views[i:end]); err != nil {
			return nil, err
		}
		i = end
	}
	got, err := store.Get(ctx, single...)
	for j, view := range got {
		views[at[j]] = view
	}
	return views, err
}

// getRun reads the views of ascending keys in one partition.
func getRun(ctx context.Context, store Views, keys []Key, views []View) error {
	for i, key := range keys {
		views[i].Key = key
	}
	within := Range{From: keys[0].Sort, Before: next(keys[len(keys)-1].Sort), Limit: len(keys) + 1}
	for i := 0; ; {
		got, err := store.Query(ctx, keys[0].Partition, within)
		if err != nil {
			return err
		}
		for _, view := range got {
			for i < len(keys) && keys[i].Sort < view.Key.Sort {
				i++
			}
			if i < len(keys) && keys[i].Sort == view.Key.Sort {
				views[i] = view
			}
		}
		if len(got) < within.Limit {
			return nil
		}
		within.From = next(got[len(got)-1].Key.Sort)
	}
}

// same reports whether two views have the same content. A view that no event touches any more is
// equal to one that is not stored.
func (g generationPair) same(live, built View) bool {
	if live.Version > 0 && built.Version > 0 {
		return bytes.Equal(live.Body, built.Body)
	}
	return bytes.Equal(bodyOf(g.live, live), bodyOf(g.built, built))
}

func bodyOf(p Projection, view View) []byte {
	if view.Version > 0 {
		return view.Body
	}
	doc, err := p.Open(view.Key, nil)
	if err != nil {
		return nil
	}
	body, _ := doc.Body()
	return body
}

// confirmSuspects finds which suspects differ from what the log folds to, and heals them if b says
// so.
func (r *Rebuilder) confirmSuspects(ctx context.Context, b *Rebuild, pairs map[string]generationPair) error {
	c := &b.Compared
	suspects, err := r.differing(ctx, c.Suspects, pairs)
	if err != nil {
		return err
	}
	built, keys := make([]owned, len(suspects)), make([]Key, len(suspects))
	for i, d := range suspects {
		built[i], keys[i] = owned{d.pair.built, d.built.Key}, d.key
	}
	if err := r.refold(ctx, built); err != nil {
		return err
	}
	suspects, err = r.differing(ctx, keys, pairs)
	if err != nil {
		return err
	}
	findings, live := make([]Finding, len(suspects)), make([]owned, len(suspects))
	for i, d := range suspects {
		findings[i] = d.finding()
		findings[i].Healed = b.Heal
		live[i] = owned{d.pair.live, d.live.Key}
	}
	if b.Heal {
		if err := r.refold(ctx, live); err != nil {
			return err
		}
		c.Healed += int64(len(findings))
	}
	c.Differ += int64(len(findings))
	c.Findings = append(c.Findings, findings[:min(len(findings), MaxFindings-len(c.Findings))]...)
	c.TooMany = c.TooMany || c.Differ >= MaxFindings && !b.Heal || c.Differ >= maxHealed
	c.Suspects, c.Since = nil, time.Time{}
	return nil
}

// difference is a view that differs between the two generations.
type difference struct {
	key         Key // in the first generation
	pair        generationPair
	live, built View
}

// differing returns which of the views, keys of the first generation, differ now.
func (r *Rebuilder) differing(ctx context.Context, keys []Key, pairs map[string]generationPair) ([]difference, error) {
	both := make([]Key, 0, 2*len(keys))
	for _, key := range keys {
		pair := pairs[ownerOf(key.Partition)]
		both = append(both, Key{prefix(pair.liveNumber) + key.Partition, key.Sort}, Key{prefix(pair.builtNumber) + key.Partition, key.Sort})
	}
	got, err := r.views.Get(ctx, both...)
	if err != nil {
		return nil, err
	}
	var all []difference
	for i, key := range keys {
		d := difference{key, pairs[ownerOf(key.Partition)], got[2*i], got[2*i+1]}
		if !d.pair.same(d.live, d.built) {
			all = append(all, d)
		}
	}
	return all, nil
}

// finding describes what is wrong with the live view, given that the other is right.
func (d difference) finding() Finding {
	f := Finding{
		Projection: d.pair.live.Name(), Stream: d.pair.live.Stream(d.live.Key), Key: d.key, Fault: Differs,
	}
	var live, built map[string]json.RawMessage
	nothing := bodyOf(d.pair.live, View{Key: d.live.Key})
	_, err := d.pair.live.Open(d.live.Key, d.live.Body)
	err = cmp.Or(err, json.Unmarshal(bodyOf(d.pair.live, d.live), &live))
	switch {
	case err != nil:
		f.Fault = Damaged
	case d.live.Version == 0 || bytes.Equal(d.live.Body, nothing):
		f.Fault = Missing
	case d.built.Version == 0 || bytes.Equal(d.built.Body, nothing):
		f.Fault = Extra
	case json.Unmarshal(d.built.Body, &built) == nil:
		names := maps.Clone(live)
		maps.Copy(names, built)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if !bytes.Equal(live[name], built[name]) {
				f.Fields = append(f.Fields, name)
			}
		}
	}
	return f
}
