package operate

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

// counted is how far the log is counted: what a job will take, before it begins, and what a dry
// run is about.
type counted struct {
	Parts []countedPart `json:"parts,omitempty"`
}

// countedPart is one part of the log.
type countedPart struct {
	Part    events.Part `json:"part"`
	After   events.Key  `json:"after,omitzero"`
	Scanned int64       `json:"scanned"` // events read
	Matched int64       `json:"matched"` // of those the ones that are meant
	Views   int64       `json:"views"`   // that these touch, one that two events touch counted twice
	Bytes   int64       `json:"bytes"`   // of what was read, as items of DynamoDB
	Done    bool        `json:"done,omitempty"`
}

// counts are the sums over all parts.
type counts struct{ scanned, matched, views, readUnits int64 }

func (c *counted) sum() (s counts) {
	for _, p := range c.Parts {
		s.scanned += p.Scanned
		s.matched += p.Matched
		s.views += p.Views
		s.readUnits += (p.Bytes + 4095) / 4096 // 4 KB each, read consistently
	}
	return s
}

// counter counts a log.
type counter struct {
	log    events.Log
	stream events.Stream // of which alone; "": all
	wants  func(events.Event) (matches bool, views int)
}

// step counts until a time, the parts side by side, and reports whether it has come to the end.
func (k counter) step(ctx context.Context, c *counted, until time.Time) (over bool, err error) {
	if len(c.Parts) == 0 {
		n := runtime.GOMAXPROCS(0)
		if k.stream != "" {
			n = 1
		}
		for i := range n {
			c.Parts = append(c.Parts, countedPart{Part: events.Part{Index: i, Of: n}})
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range c.Parts {
		if p := &c.Parts[i]; !p.Done {
			group.Go(func() error { return k.count(ctx, p, until) })
		}
	}
	err = group.Wait()
	over = true
	for _, p := range c.Parts {
		over = over && p.Done
	}
	return over && err == nil, err
}

// lookEach is after how many events the time is looked at.
const lookEach = 256

func (k counter) count(ctx context.Context, p *countedPart, until time.Time) error {
	all := k.log.Scan(ctx, p.Part, p.After)
	if k.stream != "" {
		all = k.log.Read(ctx, k.stream, events.Range{After: p.After.ID})
	}
	for e, err := range all {
		if err != nil {
			return fmt.Errorf("count the log: %w", err)
		}
		p.After = events.Key{Stream: e.Stream, ID: e.ID}
		p.Scanned++
		p.Bytes += storedBytes(e)
		if matches, views := k.wants(e); matches {
			p.Matched, p.Views = p.Matched+1, p.Views+int64(views)
		}
		if p.Scanned%lookEach == 0 && !time.Now().Before(until) {
			return nil
		}
	}
	p.Done = true
	return nil
}

// storedBytes is the size of an event as an item of DynamoDB: names and values.
func storedBytes(e events.Event) int64 {
	const names = len("stream") + len("id") + len("type") + len("actor") + len("region") + len("data")
	const id, version = 26, 2
	return int64(names + len(e.Stream) + id + len(e.Type) + version + len(e.Actor) + len(e.Region) + len(e.Data))
}

// Prices per unit in dollars, those of DynamoDB and EventBridge in us-east-1.
const (
	readUnitPrice  = 0.125 / 1e6
	writeUnitPrice = 0.625 / 1e6
	publishPrice   = 1.00 / 1e6
)
