package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"parley/events"
	"parley/events/keys"
)

// Replay is the kind of job that publishes history again, to those who listen for its prefix and
// to nobody else. It counts what it is to publish, and then publishes it, each event at least once
// and with the id it has. Beats and what operators did are no history and left out.
type Replay struct {
	Region string
	Log    events.Log
	Bus    Bus
	Keys   *keys.Ring // opens what is published; nil: the bus opens what it delivers
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
	Phase     string     `json:"phase"`
	Count     counted    `json:"count"`
	After     events.Key `json:"after,omitzero"` // the last event gone through to publish
	Published int64      `json:"published"`
	Refused   int64      `json:"refused"`
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
	s := &replayStep{k, t, f, &w, time.Now().Add(t.Budget)}
	over := false
	if w.Phase == phaseCount {
		over, err = counter{k.Log, f.stream, func(e events.Event) (bool, int) { return f.wants(e), 0 }}.step(ctx, &w.Count, s.end)
	} else {
		over, err = s.publish(ctx)
	}
	p, encodeErr := s.progress(over && err == nil)
	return p, errors.Join(err, encodeErr)
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
	sum := s.Count.sum()
	if over && s.Phase == phaseCount && !s.Params.DryRun {
		s.Phase, over = phasePublish, sum.matched == 0
	}
	p = Progress{Phase: s.Phase, Done: sum.scanned, Finished: over}
	if s.Phase == phasePublish {
		p.Done, p.Total = s.Published+s.Refused, sum.matched
	}
	if p.Work, err = json.Marshal(s.replayed); err != nil {
		return Progress{}, err
	}
	units, rate := 2*sum.readUnits, int64(s.rate())
	p.Result, err = json.Marshal(replayCost{
		Events: sum.matched, Scanned: sum.scanned, ReadUnits: units, Published: s.Published, Refused: s.Refused,
		Dollars: float64(units)*readUnitPrice + float64(sum.matched)*publishPrice,
		Seconds: (sum.matched + rate - 1) / rate,
	})
	return p, err
}

func (s *replayStep) rate() int {
	if s.Params.Rate == 0 {
		return defaultRate
	}
	return s.Params.Rate
}

// read goes through what is left.
func (s *replayStep) read(ctx context.Context, do func(events.Event) (more bool, err error)) (over bool, err error) {
	all := s.Log.Scan(ctx, events.Part{Index: 0, Of: 1}, s.After)
	if s.stream != "" {
		r := events.Range{After: s.After.ID, Before: s.until}
		if s.After.Stream == "" && s.from != (events.ID{}) {
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

// publish publishes, at the rate asked for, until the budget is used up.
func (s *replayStep) publish(ctx context.Context) (over bool, err error) {
	out := publisher{bus: s.Bus, keys: s.Keys, prefix: s.Params.To, region: s.Region, replay: s.ID}
	size := min(max(s.rate()/2, 1), maxEntries)
	limit := rate.NewLimiter(rate.Limit(s.rate()), size)
	limit.AllowN(time.Now(), size) // each step begins with nothing saved up
	var last events.Key
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
		s.After = last
		return nil
	}
	seen := 0
	over, err = s.read(ctx, func(e events.Event) (bool, error) {
		last, seen = events.Key{Stream: e.Stream, ID: e.ID}, seen+1
		if !s.wants(e) {
			if len(out.entries) == 0 {
				s.After = last
			}
			return seen%lookEach != 0 || time.Now().Before(s.end), nil
		}
		if err := out.add(ctx, e); err != nil {
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
