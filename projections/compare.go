package projections

import (
	"bytes"
	"context"
	"slices"
	"time"
)

// Compared is how far what was built is compared with what is live.
type Compared struct {
	After   Key   `json:"after,omitzero"` // how far the views were gone through
	Scanned bool  `json:"scanned,omitempty"`
	Views   int64 `json:"views"` // so many, of both generations together
	// Suspects are views that differed when they were looked at, at Since for the last time:
	// live events come to one generation before the other.
	Suspects []Key     `json:"suspects,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	// Differ is how many views of the live generation are not what the log adds up to, Healed how
	// many of them were folded again. Findings are the first [MaxFindings].
	Differ   int64     `json:"differ"`
	Healed   int64     `json:"healed,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	// TooMany says that there were more than it is worth while to look at one by one: the rest
	// was counted as it differed at first sight, and not healed. Rebuild instead.
	TooMany bool `json:"too_many,omitempty"`
}

// MaxFindings is how many findings are told.
const MaxFindings = 1000

const (
	maxSuspects = 512
	maxHealed   = 10 * MaxFindings
)

// compareOn compares for a slice. Every view of either generation is looked at once; the ones
// that differ are looked at again later; and what differs still is folded again from the log in
// the generation that is built, so that this one is right whoever is not.
func (r *Rebuilder) compareOn(ctx context.Context, b *Rebuild) error {
	state, err := r.holds(ctx, b)
	if err != nil {
		return err
	}
	two, err := r.sides(b, state)
	if err != nil {
		return err
	}
	c := &b.Compared
	for until := r.now().Add(r.Slice); ; {
		switch {
		case len(c.Suspects) >= maxSuspects, c.Scanned && len(c.Suspects) > 0:
			settled, err := r.waited(ctx, c.Since, r.Settle)
			if err != nil || !settled {
				return err
			}
			if err := r.lookAgain(ctx, b, two); err != nil {
				return err
			}
		case !c.Scanned:
			if err := r.look(ctx, c, two); err != nil {
				return err
			}
		case b.Audit:
			b.drop()
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

// sides are the two generations of a projection that are compared.
type sides struct {
	live, built Projection
	liveNumber  int
	builtNumber int
}

// sides returns them by the projections' names.
func (r *Rebuilder) sides(b *Rebuild, state *generations) (map[string]sides, error) {
	list, err := projectionsNamed(b.Projections)
	two := make(map[string]sides, len(list))
	for _, p := range list {
		live, built := state.of(p.Name()).Live, b.Numbers[p.Name()]
		two[p.Name()] = sides{generationOf(p, live), generationOf(p, built), live, built}
	}
	return two, err
}

// look compares the next page of views with their counterparts.
func (r *Rebuilder) look(ctx context.Context, c *Compared, two map[string]sides) error {
	var prefixes []string
	for name, s := range two {
		prefixes = append(prefixes, prefix(s.liveNumber)+name, prefix(s.builtNumber)+name)
	}
	page, next, err := r.views.Scan(ctx, prefixes, c.After, r.sizes.page)
	if err != nil {
		return err
	}
	page = slices.DeleteFunc(page, func(v View) bool {
		n, base := splitPartition(v.Key.Partition)
		s, ok := two[ownerOf(base)]
		return !ok || n != s.liveNumber && n != s.builtNumber
	})
	others := make([]Key, len(page))
	for i, view := range page {
		n, base := splitPartition(view.Key.Partition)
		s := two[ownerOf(base)]
		other := s.liveNumber
		if n == other {
			other = s.builtNumber
		}
		others[i] = Key{prefix(other) + base, view.Key.Sort}
	}
	counterparts, err := r.runs(ctx, others)
	if err != nil {
		return err
	}
	suspected := map[Key]bool{} // a view may come by in one generation, and again in the other
	for _, key := range c.Suspects {
		suspected[key] = true
	}
	for i, view := range page {
		n, base := splitPartition(view.Key.Partition)
		s, key := two[ownerOf(base)], Key{base, view.Key.Sort}
		live, built := view, counterparts[i]
		if n != s.liveNumber {
			live, built = built, live
			if live.Version > 0 {
				continue // it was compared, or will be
			}
		}
		if suspected[key] || s.same(live, built) {
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

// enoughRun is how many views of a partition are better read by a range than by their keys.
const enoughRun = 8

// runs returns the views of keys, in their order. Those of one partition stand together and in
// order: where there are many, they are read by ranges.
func (r *Rebuilder) runs(ctx context.Context, keys []Key) ([]View, error) {
	views := make([]View, len(keys))
	var single []Key
	var at []int
	for i := 0; i < len(keys); {
		end := i
		for end < len(keys) && keys[end].Partition == keys[i].Partition {
			end++
		}
		if end-i < enoughRun {
			for ; i < end; i++ {
				single, at = append(single, keys[i]), append(at, i)
			}
			continue
		}
		if err := r.run(ctx, keys[i:end], views[i:end]); err != nil {
			return nil, err
		}
		i = end
	}
	got, err := r.views.Get(ctx, single...)
	for j, view := range got {
		views[at[j]] = view
	}
	return views, err
}

// run reads the views of keys in one partition, in order.
func (r *Rebuilder) run(ctx context.Context, keys []Key, views []View) error {
	within := Range{From: keys[0].Sort, Before: next(keys[len(keys)-1].Sort), Limit: len(keys) + 1}
	i := 0
	for {
		got, err := r.views.Query(ctx, keys[0].Partition, within)
		if err != nil {
			return err
		}
		for _, view := range got {
			for ; i < len(keys) && keys[i].Sort < view.Key.Sort; i++ {
				views[i].Key = keys[i]
			}
			if i < len(keys) && keys[i].Sort == view.Key.Sort {
				views[i] = view
				i++
			}
		}
		if len(got) < within.Limit {
			break
		}
		within.From = next(got[len(got)-1].Key.Sort)
	}
	for ; i < len(keys); i++ {
		views[i].Key = keys[i]
	}
	return nil
}

// same reports whether two views say the same. One that no event touches any more says what one
// says that is not there.
func (s sides) same(live, built View) bool {
	if live.Version > 0 && built.Version > 0 {
		return bytes.Equal(live.Body, built.Body)
	}
	return bytes.Equal(bodyOf(s.live, live), bodyOf(s.built, built))
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

// lookAgain tells which suspects differ from what the log adds up to, and heals them if asked to.
func (r *Rebuilder) lookAgain(ctx context.Context, b *Rebuild, two map[string]sides) error {
	c := &b.Compared
	suspects, err := r.differing(ctx, c.Suspects, two)
	if err != nil {
		return err
	}
	built, live := make([]owned, len(suspects)), make([]owned, len(suspects))
	for i, d := range suspects {
		built[i], live[i] = owned{d.sides.built, d.built.Key}, owned{d.sides.live, d.live.Key}
	}
	if err := r.refold(ctx, built); err != nil {
		return err
	}
	suspects, err = r.differing(ctx, keysOf(suspects), two)
	if err != nil {
		return err
	}
	findings := make([]Finding, len(suspects))
	live = live[:0]
	for i, d := range suspects {
		findings[i] = d.finding()
		findings[i].Healed = b.Heal
		live = append(live, owned{d.sides.live, d.live.Key})
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
