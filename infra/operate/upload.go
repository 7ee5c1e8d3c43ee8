package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/functions/wire"
	"parley/infra/operate/source"
)

// The limits of a batch of events, below those of the API.
const (
	maxBatch      = 100
	maxBatchBytes = 3 << 20
	// batchAttempts take about two minutes if nothing answers.
	batchAttempts = 30
)

// upload reads the source and uploads the events made from it.
func (c importCmd) upload(u *upload, src source.Source) error {
	o := source.Options{Name: c.Source, Owner: c.Owner, Public: c.Public, Events: c.Events, Shift: time.Duration(c.Shift), Now: time.Now(), Region: "dry-run"}
	if !c.DryRun {
		var err error
		if u.to, err = u.anyRegion(); err != nil {
			return err
		}
		o.Region = u.to.name
	}
	u.progress.show("reading the source")
	survey, err := source.NewSurvey(cancelable{src, u.ctx}, o)
	if err != nil {
		return err
	}
	if !c.DryRun {
		if err := u.continueRooms(src, survey); err != nil {
			return err
		}
	}
	u.total = survey.Events
	u.result = importResult{
		Records: survey.Records, Types: map[string]*tally{}, Skipped: map[string]int{}, Mapped: survey.Mapped, Reported: []string{},
		DryRun: c.DryRun, Dollars: float64(survey.Events) / 1e6 * dollarsPerMillion,
	}
	u.startLanes(c.Lanes)
	for item, err := range source.Events(src, survey) {
		switch {
		case err != nil:
			return errors.Join(err, u.finish())
		case item.Problem != "":
			u.mu.Lock()
			u.result.NotTaken++
			if item.Type != "" {
				u.result.Skipped[item.Type]++
			}
			u.addProblem(item.Place, "not imported: "+item.Problem)
			u.mu.Unlock()
		case item.Note != "":
			u.mu.Lock()
			u.result.InPart++
			u.addProblem(item.Place, "imported in part: "+item.Note)
			u.mu.Unlock()
		case item.Repeat:
			u.result.Repeated++
			u.mu.Lock()
			u.writeReport(item.Place, "the same message as an earlier one of the source")
			u.mu.Unlock()
		case c.DryRun:
			u.result.count(item.Event, false)
		case item.Known:
			u.mu.Lock()
			u.result.count(item.Event, true)
			u.done++
			u.mu.Unlock()
		default:
			if !u.add(item) {
				return u.finish()
			}
		}
	}
	return u.finish()
}

// roomsAtOnce is how many rooms are looked for concurrently.
const roomsAtOnce = 8

// continueRooms finds the rooms of the source that the region has, from an earlier import, so that this one
// continues them.
func (u *upload) continueRooms(src source.Source, survey *source.Survey) error {
	continued := 0
	for _, direct := range []bool{false, true} {
		candidates := survey.Candidates(direct)
		pasts := make(map[string]*source.Past, len(candidates))
		var mu sync.Mutex
		group, ctx := errgroup.WithContext(u.ctx)
		group.SetLimit(roomsAtOnce)
		for key, streams := range candidates {
			group.Go(func() error {
				past, err := u.pastOf(ctx, streams)
				mu.Lock()
				defer mu.Unlock()
				if pasts[key] = past; past != nil {
					u.progress.show(fmt.Sprintf("reading what %s has of %d rooms", u.to.title(), len(pasts)))
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for key, past := range pasts {
			if past != nil {
				survey.Continue(key, past)
				continued++
			}
		}
		if err := survey.Recognize(cancelable{src, u.ctx}); err != nil {
			return err
		}
	}
	if continued == 0 {
		return nil
	}
	return survey.Prepare(cancelable{src, u.ctx})
}

// pastOf returns what the region has in the first of some streams that is not empty; nil if all are.
func (u *upload) pastOf(ctx context.Context, streams []events.Stream) (*source.Past, error) {
	for _, stream := range streams {
		past := source.NewPast(stream)
		for e, err := range readEvents(u.to, stream, "", "", 0, "sealed", "true") {
			if err = cmp.Or(err, ctx.Err()); err != nil {
				return nil, fmt.Errorf("look for an earlier import: %w", err)
			}
			past.Add(e)
		}
		if past.Len() > 0 {
			return past, nil
		}
	}
	return nil, nil
}

// cancelable is a source that fails when a context ends.
type cancelable struct {
	source.Source
	ctx context.Context
}

// Records implements [source.Source].
func (c cancelable) Records() iter.Seq2[source.Record, error] {
	return func(yield func(source.Record, error) bool) {
		for rec, err := range c.Source.Records() {
			if c.ctx.Err() != nil {
				rec, err = source.Record{}, errors.New("stopped; nothing was sent")
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// upload sends events in batches. All events of a stream go through one lane, in order; lanes work in
// parallel. Sending a batch again is safe, because the ids are fixed.
type upload struct {
	*session
	to       *region
	group    *errgroup.Group
	groupCtx context.Context
	lanes    []lane

	mu       sync.Mutex
	result   importResult
	count    int           // of problems
	report   *bufio.Writer // nil: none
	progress *progress
	total    int
	done     int
	start    time.Time
}

// lane collects a batch while the one before is being sent.
type lane struct {
	batches chan []source.Item
	items   []source.Item
	bytes   int
}

func (u *upload) startLanes(n int) {
	u.lanes = make([]lane, n)
	u.group, u.groupCtx = errgroup.WithContext(u.ctx)
	for i := range u.lanes {
		batches := make(chan []source.Item, 1)
		u.lanes[i].batches = batches
		u.group.Go(func() error {
			for items := range batches {
				if err := u.send(items); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// add queues an event. It returns false if the upload has failed.
func (u *upload) add(item source.Item) bool {
	h := fnv.New32a()
	_, _ = io.WriteString(h, string(item.Event.Stream)) // never fails
	l := &u.lanes[h.Sum32()%uint32(len(u.lanes))]
	size := 6*len(item.Event.Data) + 300 // at most, with every byte escaped
	if (len(l.items) == maxBatch || len(l.items) > 0 && l.bytes+size > maxBatchBytes) && !u.flush(l) {
		return false
	}
	l.items, l.bytes = append(l.items, item), l.bytes+size
	return true
}

func (u *upload) flush(l *lane) bool {
	select {
	case l.batches <- l.items:
		l.items, l.bytes = nil, 0
		return true
	case <-u.groupCtx.Done():
		return false
	}
}

// finish sends what is queued and waits for all lanes.
func (u *upload) finish() error {
	for i := range u.lanes {
		if len(u.lanes[i].items) > 0 {
			u.flush(&u.lanes[i])
		}
		close(u.lanes[i].batches)
	}
	err := u.group.Wait()
	if u.ctx.Err() != nil {
		return fmt.Errorf("stopped after %s events; run the same command again to continue: events that exist are not added twice",
			amountText(int64(u.done), int64(u.total)))
	}
	if err != nil {
		return fmt.Errorf("%w\n%s events were sent; run the same command again to continue", err, amountText(int64(u.done), int64(u.total)))
	}
	return nil
}

func (u *upload) send(items []source.Item) error {
	// A log that is copied may have events that share an id.
	made := slices.ContainsFunc(items, func(item source.Item) bool { return !item.Copied })
	batch := wire.NewEvents{Events: make([]wire.RawEvent, len(items)), Shared: !made}
	for i, item := range items {
		text, err := item.Event.MarshalJSON()
		if err != nil {
			return err
		}
		batch.Events[i] = wire.RawEvent(text)
	}
	var out wire.AppendResult
	err := u.do(u.groupCtx, request{method: "POST", url: u.to.url + "/v1/ops/events", body: batch, into: &out, attempts: batchAttempts})
	if err == nil && len(out.Events) != len(items) {
		err = errors.New("the answer does not have an outcome for each event")
	}
	if err != nil {
		return fmt.Errorf("%s: append events: %w", u.to.title(), err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, outcome := range out.Events {
		item := items[i]
		switch outcome.Outcome {
		case wire.AppendStored, wire.AppendRepeat:
			u.result.count(item.Event, outcome.Outcome == wire.AppendRepeat)
		default:
			reason := "no reason given"
			if outcome.Problem != nil {
				reason = outcome.Problem.Code + ", " + outcome.Problem.Detail
			}
			u.result.Refused++
			u.addProblem(item.Place, "refused: "+item.Event.Type+": "+reason)
		}
	}
	u.done += len(items)
	u.progress.showPace("importing", u.done, u.total, u.start)
	return nil
}

// addProblem notes something that cannot be imported. The caller holds the lock.
func (u *upload) addProblem(place source.Place, text string) {
	if u.count++; len(u.result.Reported) < maxListedProblems {
		u.result.Reported = append(u.result.Reported, place.String()+": "+text)
	}
	u.writeReport(place, text)
}

// writeReport writes a line of the report. The caller holds the lock.
func (u *upload) writeReport(place source.Place, text string) {
	if u.report != nil {
		_, _ = u.report.WriteString(place.String() + ": " + text + "\n") // flushing returns the error
	}
}
