package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/infra/operate/source"
)

// The limits of a batch, below those of the server.
const (
	maxBatch      = 100
	maxBatchBytes = 3 << 20
	// uploadTries take about two minutes if nothing answers.
	uploadTries = 30
)

// upload sends events in batches. The events of a stream go through one lane, in their order;
// lanes go side by side. A batch may be sent twice: the events have ids.
type upload struct {
	to    *region
	ctx   context.Context
	group *errgroup.Group
	lanes []lane

	mu       sync.Mutex
	out      *imported
	all      *complaints
	progress *progress
	total    int
	done     int
	start    time.Time
}

// lane gathers a batch while the one before is sent.
type lane struct {
	work  chan []source.Item
	items []source.Item
	bytes int
}

func newUpload(to *region, lanes, total int, p *progress, out *imported, all *complaints) *upload {
	u := &upload{to: to, out: out, all: all, progress: p, total: total, start: time.Now(), lanes: make([]lane, lanes)}
	ctx := p.ctx
	u.group, u.ctx = errgroup.WithContext(ctx)
	for i := range u.lanes {
		work := make(chan []source.Item, 1)
		u.lanes[i].work = work
		u.group.Go(func() error {
			for items := range work {
				if err := u.send(items); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return u
}

// add takes an event, and says whether more are wanted.
func (u *upload) add(item source.Item) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(item.Event.Stream)) // never fails
	l := &u.lanes[h.Sum32()%uint32(len(u.lanes))]
	size := 6*len(item.Event.Data) + 300 // escaped anew, at the most
	if len(l.items) == maxBatch || len(l.items) > 0 && l.bytes+size > maxBatchBytes {
		if !u.flush(l) {
			return false
		}
	}
	l.items, l.bytes = append(l.items, item), l.bytes+size
	return true
}

func (u *upload) flush(l *lane) bool {
	select {
	case l.work <- l.items:
		l.items, l.bytes = nil, 0
		return true
	case <-u.ctx.Done():
		return false
	}
}

// finish sends what is left and waits for all.
func (u *upload) finish() error {
	for i := range u.lanes {
		if len(u.lanes[i].items) > 0 {
			u.flush(&u.lanes[i])
		}
		close(u.lanes[i].work)
	}
	err := u.group.Wait()
	if u.progress.ctx.Err() != nil {
		return fmt.Errorf("stopped after %s of %s events; the same command goes on from here: what is there is not added twice",
			thousands(int64(u.done)), thousands(int64(u.total)))
	}
	if err != nil {
		return fmt.Errorf("%w\n%s of %s events were sent; the same command goes on from here", err, thousands(int64(u.done)), thousands(int64(u.total)))
	}
	return nil
}

func (u *upload) send(items []source.Item) error {
	batch := make([]json.RawMessage, len(items))
	for i, item := range items {
		text, err := item.Event.MarshalJSON()
		if err != nil {
			return err
		}
		batch[i] = text
	}
	var out appended
	err := u.to.doIn(u.ctx, request{
		method: "POST", url: u.to.url + "/v1/ops/events", body: map[string]any{"events": batch}, into: &out, tries: uploadTries,
	})
	if err != nil {
		return fmt.Errorf("%s: append events: %w", u.to.title(), err)
	}
	if len(out.Events) != len(items) {
		return errors.New("the region did not say what came of each event")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, got := range out.Events {
		switch item := items[i]; {
		case got.Outcome == "stored":
			u.out.of(item.Event).Stored++
		case got.Outcome == "repeat":
			u.out.of(item.Event).Repeats++
		default:
			u.out.Refused++
			reason := "the region gave no reason"
			if got.Problem != nil {
				reason = got.Problem.Code + ", " + got.Problem.Detail
			}
			u.all.add("refused", item.Place, item.Event.Type+": "+reason)
		}
	}
	u.done += len(items)
	u.progress.pace("importing", u.done, u.total, u.start)
	return nil
}

// complain notes what could not be taken.
func (u *upload) complain(what string, place source.Place, reason string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if what == "in part" {
		u.out.InPart++
	} else {
		u.out.NotTaken++
	}
	u.all.add(what, place, reason)
}
