package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"parley/events"
	"parley/events/keys"
	"parley/functions/stream"
	"parley/functions/wire"
	"parley/projections"
)

// Replay is the kind of job that publishes past events again, to subscribers of its prefix only. It first counts the events and then publishes each at least once, under its id.
// Heartbeats and what operators did are left out.
type Replay struct {
	Region string
	Log    events.Log
	Views  projections.Views // say which messages are deleted: their texts are not published
	Bus    stream.ReplayBus  // no way to ordinary subscribers
	Keys   *keys.Ring        // decrypts what is published; nil: the bus decrypts what it delivers
}

const (
	defaultRate = 100 // events a second
	maxRate     = 10_000

	phaseCount   = "count"
	phasePublish = "publish"
)

// replayed is how far a replay is.
type replayed struct {
	Phase     string     `json:"phase"`
	Count     counted    `json:"count"`
	After     events.Key `json:"after,omitzero"` // the last event that was published or passed over
	Published int64      `json:"published"`
	Refused   int64      `json:"refused"`
}

// Check implements [Kind].
func (k *Replay) Check(p wire.Params) error {
	if !stream.ValidPrefix(p.To) {
		return events.Invalid("to", fmt.Sprintf("must be the prefix of the replay's detail types, which stands before the slash: 1 to %d characters of a-z 0-9 -, and not import", stream.MaxPrefix))
	}
	if p.Rate < 0 || p.Rate > maxRate {
		return events.Invalid("rate", fmt.Sprintf("must be 1 to %d events a second", maxRate))
	}
	if p.Projection != "" || p.Heal {
		return events.Invalid(map[bool]string{true: "heal", false: "projection"}[p.Heal], "does not belong to a replay")
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

// progress returns how far the replay is; over: the phase has ended.
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
	p.Result, err = json.Marshal(wire.ReplayResult{
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

// read passes each event that is left to do, until it returns false.
func (s *replayStep) read(ctx context.Context, do func(events.Event) (more bool, err error)) (over bool, err error) {
	all := s.Log.Scan(ctx, events.Part{Index: 0, Of: 1}, s.After)
	if s.stream != "" {
		all = events.ReadBehind(ctx, s.Log, s.stream, s.After.Ref(), events.Range{Before: s.until})
		if s.After.Stream == "" && s.from != (events.ID{}) {
			all = s.Log.Read(ctx, s.stream, events.Range{After: events.PrecedingID(s.from), Before: s.until})
		}
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

// publish publishes at the requested rate, until the time of the step is used up.
func (s *replayStep) publish(ctx context.Context) (over bool, err error) {
	p := stream.Publisher{Bus: s.Bus, Region: s.Region, Source: stream.ReplaySource, Prefix: s.Params.To + "/", Replay: s.ID}
	size := min(max(s.rate()/2, 1), stream.MaxEntries)
	limit := rate.NewLimiter(rate.Limit(s.rate()), size)
	limit.AllowN(time.Now(), size) // each step begins with an empty bucket
	var next []events.Event        // of the next call
	var bytes int
	var last events.Key
	send := func() error {
		if len(next) == 0 {
			return nil
		}
		entries, err := s.entries(ctx, &p, next)
		if err != nil {
			return err
		}
		if err := limit.WaitN(ctx, len(entries)); err != nil {
			return fmt.Errorf("keep to the rate of a replay: %w", err)
		}
		var published, refused int64
		if err := p.Send(ctx, entries, func(_ int, refusal error) error {
			if refusal == nil {
				published++
			} else {
				refused++
			}
			return nil
		}); err != nil {
			return fmt.Errorf("publish a replay: %w", err)
		}
		s.Published, s.Refused, s.After = s.Published+published, s.Refused+refused, last
		next, bytes = next[:0], 0
		return nil
	}
	seen := 0
	over, err = s.read(ctx, func(e events.Event) (bool, error) {
		last, seen = e.Key(), seen+1
		if !s.wants(e) {
			if len(next) == 0 {
				s.After = last
			}
			return seen%lookEach != 0 || time.Now().Before(s.end), nil
		}
		next, bytes = append(next, e), bytes+int(storedBytes(e)) // sealed: more than it will be
		if len(next) < size && bytes < stream.MaxCallBytes/2 {
			return true, nil
		}
		err = send()
		return time.Now().Before(s.end), err
	})
	if err == nil {
		err = send()
	}
	return over, err
}

// entries makes the entries of events, as they may be shown now.
func (s *replayStep) entries(ctx context.Context, p *stream.Publisher, es []events.Event) ([]stream.Entry, error) {
	shown, err := projections.Redact(ctx, s.Views, es...)
	if err == nil && s.Keys != nil {
		shown, err = s.Keys.ShowEvents(ctx, shown...)
	}
	if err != nil {
		return nil, fmt.Errorf("read what may be replayed: %w", err)
	}
	entries := make([]stream.Entry, len(shown))
	for i, e := range shown {
		if entries[i], err = p.Entry(ctx, e); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// filter says which events are replayed.
type filter struct {
	stream      events.Stream // "": all
	from, until events.ID     // from <= id < until; zero: no bound
	typ         string        // "": all
	wild        bool          // all types that begin with typ
}

func filterOf(p wire.Params) (f filter, err error) {
	if p.Room != "" {
		if f.stream, err = parseStream("room/" + p.Room); err != nil {
			return f, events.Invalid("room", "must be the id of a room")
		}
	}
	if p.From != "" {
		if f.from, err = parseTime("from", p.From, firstID); err != nil {
			return f, err
		}
	}
	if p.Until != "" {
		if f.until, err = parseTime("until", p.Until, firstID); err != nil {
			return f, err
		}
		if f.until.Compare(f.from) <= 0 {
			return f, events.Invalid("until", "must be later than from")
		}
	}
	f.typ, f.wild = strings.CutSuffix(p.Type, "*")
	if p.Type == "" {
		return f, nil
	}
	for _, known := range events.Types() {
		if known == f.typ || f.wild && strings.HasPrefix(known, f.typ) {
			return f, nil
		}
	}
	return f, events.Invalid("type", "must be an event type such as message.posted, or a prefix such as message.*")
}

// firstID is the least id that carries a time.
func firstID(at time.Time) events.ID {
	return events.FollowingID(events.LastID(at.Add(-time.Millisecond)))
}

func (f filter) wants(e events.Event) bool {
	kind, _ := e.Stream.Split()
	return (kind == events.KindRoom || kind == events.KindUser) &&
		e.ID.Compare(f.from) >= 0 && (f.until == events.ID{} || e.ID.Compare(f.until) < 0) &&
		(f.typ == "" && !f.wild || e.Type == f.typ || f.wild && strings.HasPrefix(e.Type, f.typ))
}

// counted is how far the log is counted: a job counts its work before it begins, and a dry run does
// nothing else.
type counted struct {
	Parts []countedPart `json:"parts,omitempty"`
}

// countedPart is one part of the log.
type countedPart struct {
	Part    events.Part `json:"part"`
	After   events.Key  `json:"after,omitzero"`
	Scanned int64       `json:"scanned"` // events read
	Matched int64       `json:"matched"` // of those, the events that match
	Views   int64       `json:"views"`   // that these touch; a view that two events touch counts twice
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

// counter counts the events of a log that a job is about.
type counter struct {
	log    events.Log
	stream events.Stream // the only one that is read; "": all
	wants  func(events.Event) (matches bool, views int)
}

// step counts until a time, all parts concurrently, and reports whether all is counted.
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

// lookEach is after how many events the time is checked.
const lookEach = 256

func (k counter) count(ctx context.Context, p *countedPart, until time.Time) error {
	all := k.log.Scan(ctx, p.Part, p.After)
	if k.stream != "" {
		all = events.ReadBehind(ctx, k.log, k.stream, p.After.Ref(), events.Range{})
	}
	for e, err := range all {
		if err != nil {
			return fmt.Errorf("count the log: %w", err)
		}
		p.After = e.Key()
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
