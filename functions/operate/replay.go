package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"parley/events"
)

// Replay is the kind of job that publishes history again, to those who listen for its prefix and
// to nobody else. It counts what it is to publish, and then publishes it, each event at least once
// and with the id it has. Beats and what operators did are no history and left out.
type Replay struct {
	Region string
	Log    events.Log
	Bus    Bus
}

const (
	defaultRate = 100 // events a second
	maxRate     = 10_000
	maxPrefix   = 32 // characters

	phaseCount   = "count"
	phasePublish = "publish"
)

// replayed is how far a replay has come.
type replayed struct {
	Phase       string `json:"phase"`
	AfterStream string `json:"stream,omitempty"` // of the last event gone through; "": none
	AfterID     string `json:"id,omitempty"`

	Counted   int64 `json:"counted"` // events to be published
	Scanned   int64 `json:"scanned"` // events gone through to count them
	ReadUnits int64 `json:"read_units"`
	Published int64 `json:"published"`
	Refused   int64 `json:"refused"`
}

// replayCost is the result of a replay: what it takes, or has taken. Prices are in dollars, those
// of us-east-1.
type replayCost struct {
	Events    int64   `json:"events"`     // that match
	Scanned   int64   `json:"scanned"`    // that were read to find them
	ReadUnits int64   `json:"read_units"` // of DynamoDB, to read them; once to count and once to publish
	Dollars   float64 `json:"dollars"`    // for reading and publishing
	Published int64   `json:"published"`
	Refused   int64   `json:"refused"` // by the bus, for good
	Seconds   int64   `json:"seconds"` // at the rate asked for
}

// Prices per unit, in dollars.
const (
	readUnitPrice = 0.125 / 1e6
	publishPrice  = 1.00 / 1e6
)

// Check implements [Kind].
func (k *Replay) Check(p Params) error {
	if err := checkPrefix(p.To); err != nil {
		return err
	}
	if p.Rate < 0 || p.Rate > maxRate {
		return events.Invalid("rate", fmt.Sprintf("must be 1 to %d events a second", maxRate))
	}
	if p.Projection != "" || p.Heal {
		return events.Invalid(map[bool]string{true: "heal", false: "projection"}[p.Heal], "does not go with a replay")
	}
	_, err := filterOf(p)
	return err
}

// Step implements [Kind].
func (k *Replay) Step(ctx context.Context, t Task) (Progress, error) {
	w := replayed{Phase: phaseCount}
	if t.Work != nil {
		if err := json.Unmarshal(t.Work, &w); err != nil {
			return Progress{}, Permanent(fmt.Errorf("read how far the replay is: %w", err))
		}
	}
	f, err := filterOf(t.Params)
	if err != nil {
		return Progress{}, err
	}
	after, err := w.after()
	if err != nil {
		return Progress{}, Permanent(err)
	}
	s := &replayStep{k, t, f, &w, time.Now().Add(t.Budget)}
	over := false
	if w.Phase == phaseCount {
		over, err = s.count(ctx, after)
	} else {
		over, err = s.publish(ctx, after)
	}
	p, encodeErr := s.progress(over && err == nil)
	return p, errors.Join(err, encodeErr)
}

func (w *replayed) after() (events.Key, error) {
	if w.AfterStream == "" {
		return events.Key{}, nil
	}
	id, err := events.ParseID("id", w.AfterID)
	return events.Key{Stream: events.Stream(w.AfterStream), ID: id}, err
}

func (w *replayed) passed(e events.Event) {
	w.AfterStream, w.AfterID = string(e.Stream), e.ID.String()
}

// replayStep is one step of a replay.
type replayStep struct {
	*Replay
	Task
	filter
	*replayed
	end time.Time
}

// progress says how far it is; over: the phase is.
func (s *replayStep) progress(over bool) (p Progress, err error) {
	dry := s.Params.DryRun
	if over && s.Phase == phaseCount && !dry {
		s.Phase, s.AfterStream, s.AfterID, over = phasePublish, "", "", s.Counted == 0
	}
	p = Progress{Phase: s.Phase, Done: s.Scanned, Finished: over}
	if s.Phase == phasePublish {
		p.Done, p.Total = s.Published+s.Refused, s.Counted
	}
	if p.Work, err = json.Marshal(s.replayed); err != nil {
		return Progress{}, err
	}
	p.Result, err = json.Marshal(s.cost())
	return p, err
}

func (s *replayStep) cost() replayCost {
	units := 2 * s.ReadUnits
	return replayCost{
		Events: s.Counted, Scanned: s.Scanned, ReadUnits: units, Published: s.Published, Refused: s.Refused,
		Dollars: float64(units)*readUnitPrice + float64(s.Counted)*publishPrice,
		Seconds: (s.Counted + int64(s.rate()) - 1) / int64(s.rate()),
	}
}

func (s *replayStep) rate() int {
	if s.Params.Rate == 0 {
		return defaultRate
	}
	return s.Params.Rate
}

// read yields what there is to go through behind a key.
func (s *replayStep) read(ctx context.Context, after events.Key, do func(events.Event) (more bool, err error)) (over bool, err error) {
	all := s.Log.Scan(ctx, events.Part{Index: 0, Of: 1}, after)
	if s.stream != "" {
		r := events.Range{After: after.ID, Before: s.until}
		if after.Stream == "" && s.from != (events.ID{}) {
			r.After = events.PrecedingID(s.from)
		}
		all = s.Log.Read(ctx, s.stream, r)
	}
	for e, err := range all {
		if err != nil {
			return false, fmt.Errorf("read the log to replay it: %w", err)
		}
		if more, err := do(e); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// count counts what is to be published, until the budget is used up.
func (s *replayStep) count(ctx context.Context, after events.Key) (over bool, err error) {
	bytes := 0
	defer func() { s.ReadUnits += int64(bytes+4095) / 4096 }() // 4 KB each, read consistently
	return s.read(ctx, after, func(e events.Event) (bool, error) {
		s.passed(e)
		s.Scanned++
		bytes += storedBytes(e)
		if s.wants(e) {
			s.Counted++
		}
		return s.Scanned%256 != 0 || time.Now().Before(s.end), nil
	})
}

// storedBytes is the size of an event as an item of DynamoDB: names and values.
func storedBytes(e events.Event) int {
	const names = len("stream") + len("id") + len("type") + len("actor") + len("region") + len("data")
	return names + len(e.Stream) + len(e.ID.String()) + len(e.Type) + 2 + len(e.Actor) + len(e.Region) + len(e.Data)
}

// publish publishes, at the rate asked for, until the budget is used up.
func (s *replayStep) publish(ctx context.Context, after events.Key) (over bool, err error) {
	out := publisher{bus: s.Bus, prefix: s.Params.To, region: s.Region, replay: s.ID}
	size := min(max(s.rate()/2, 1), maxEntries)
	limit := rate.NewLimiter(rate.Limit(s.rate()), size)
	limit.AllowN(time.Now(), size) // each step begins with nothing saved up
	var last events.Event
	flush := func() error {
		if len(out.entries) == 0 {
			return nil
		}
		if err := limit.WaitN(ctx, len(out.entries)); err != nil {
			return fmt.Errorf("keep to the rate of a replay: %w", err)
		}
		published, refused, err := out.flush(ctx)
		if err != nil {
			return err
		}
		s.Published, s.Refused = s.Published+published, s.Refused+refused
		s.passed(last)
		return nil
	}
	seen := 0
	over, err = s.read(ctx, after, func(e events.Event) (bool, error) {
		last, seen = e, seen+1
		if !s.wants(e) {
			if len(out.entries) == 0 {
				s.passed(e)
			}
			return seen%256 != 0 || time.Now().Before(s.end), nil
		}
		if err := out.add(e); err != nil {
			return false, err
		}
		if len(out.entries) < size && out.bytes < maxCallBytes/2 {
			return true, nil
		}
		err := flush()
		return time.Now().Before(s.end), err
	})
	if err == nil {
		err = flush()
	}
	return over, err
}
