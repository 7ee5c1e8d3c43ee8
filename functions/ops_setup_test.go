package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/events"
	"parley/functions/health"
	"parley/functions/operate"
	"parley/functions/stream"
	"parley/projections"
)

// ops is a region with the operators' API.
type ops struct {
	*region
	runner *operate.Runner
	work   *workKind
	health *health.Handler
	op     *client // an operator

	generations *projections.Generations
	rebuilder   *projections.Rebuilder
}

func newOps(t testing.TB) *ops {
	t.Helper()
	return opsOf(newRegion(t))
}

// opsOf adds the operators' API to a region.
func opsOf(r *region) *ops {
	o := &ops{region: r, work: &workKind{}, generations: projections.NewGenerations(r.views)}
	o.generations.Fresh = 0
	o.rebuilder = projections.NewRebuilder(r.log, r.views, o.generations)
	o.rebuilder.Grace, o.rebuilder.Settle = 0, 0
	o.health = &health.Handler{
		Region: r.name, Log: r.log, Views: r.views, Now: r.now, Timeout: time.Second,
		Drained: func(ctx context.Context) (bool, error) {
			d, err := operate.LoadDrain(ctx, r.views)
			return d.Drained, err
		},
	}
	o.runner = o.newRunner()
	operate.Register(r.api, operate.Config{
		Region: r.name, Log: r.log, Views: o.generations.Views(), Clock: r.clock, Runner: o.runner, Keys: r.ring, Retry: r.stream.Retry,
		Generations: o.generations,
		Health:      func(ctx context.Context) operate.Health { return operate.Health(o.health.Check(ctx)) },
	})
	r.doc = readOpsDocument(r)
	o.op = r.operator("olga")
	return o
}

// newRunner makes a runner as another process would.
func (o *ops) newRunner() *operate.Runner {
	acts := operate.Acts{Region: o.name, Log: o.log, Clock: o.clock}
	runner := operate.NewRunner(o.views, acts, slog.New(slog.DiscardHandler), map[string]operate.Kind{
		"replay":  &operate.Replay{Region: o.name, Log: o.log, Bus: replayBus{o.bus}, Keys: o.ring},
		"rebuild": &operate.Rebuild{Log: o.log, Rebuilder: o.rebuilder},
		"audit":   &operate.Rebuild{Log: o.log, Rebuilder: o.rebuilder, Audit: true},
		"drop":    &operate.Drop{Rebuilder: o.rebuilder},
		"work":    o.work,
	})
	runner.Now = o.now
	return runner
}

var opsDocument struct {
	sync.Once
	parts
}

func readOpsDocument(r *region) *document {
	opsDocument.Do(func() {
		text, err := r.api.OpenAPI()
		must(r.t, err)
		must(r.t, json.Unmarshal(text, &opsDocument.parts))
	})
	return &document{opsDocument.parts, map[string]bool{}}
}

// replayBus is a region's bus for replays.
type replayBus struct{ bus *bus }

func (b replayBus) Publish(ctx context.Context, entries []operate.Entry) ([]error, error) {
	put := make([]stream.Entry, len(entries))
	for i, e := range entries {
		if err := e.Replayed(); err != nil {
			return nil, err
		}
		put[i] = stream.Entry(e)
	}
	return b.bus.Publish(ctx, put)
}

// workKind is a kind of job that counts to five, one a step.
type workKind struct {
	mu     sync.Mutex
	steps  []string // job and what it had counted to, of each step
	undone []string
	during func() error // called in the middle of a step
}

func (k *workKind) Check(p operate.Params) error {
	if p.Room == "" {
		return nil
	}
	return events.ValidateRoomID("room", p.Room)
}

func (k *workKind) Step(ctx context.Context, t operate.Task) (operate.Progress, error) {
	n := 0
	if t.Work != nil {
		if err := json.Unmarshal(t.Work, &n); err != nil {
			return operate.Progress{}, err
		}
	}
	k.mu.Lock()
	k.steps = append(k.steps, string(rune('0'+n)))
	during := k.during
	k.mu.Unlock()
	if during != nil {
		if err := during(); err != nil {
			return operate.Progress{}, err
		}
	}
	n++
	work, err := json.Marshal(n)
	return operate.Progress{Work: work, Phase: "counting", Done: int64(n), Total: 5, Finished: n == 5, Result: json.RawMessage(`{"n":` + string(work) + `}`)}, err
}

func (k *workKind) Undo(_ context.Context, t operate.Task) (operate.Progress, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.undone = append(k.undone, t.ID)
	return operate.Progress{Finished: true}, nil
}

func (k *workKind) did() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.steps, "")
}

// start starts a job and returns its id.
func (o *ops) start(body string) string {
	o.t.Helper()
	return o.op.post("/v1/ops/jobs", body).want(201).text("id")
}

// step does a step of a job.
func (o *ops) step(id string) bool {
	o.t.Helper()
	more, err := o.runner.Step(context.Background(), id)
	must(o.t, err)
	return more
}

// finish does a job to its end.
func (o *ops) finish(id string) *answer {
	o.t.Helper()
	for i := 0; o.step(id); i++ {
		if i > 1000 {
			o.t.Fatal("the job does not end")
		}
	}
	return o.job(id)
}

func (o *ops) job(id string) *answer {
	o.t.Helper()
	return o.op.get("/v1/ops/jobs/" + id).want(200)
}

// inState checks a job's state.
func (o *ops) inState(id, state string) *answer {
	o.t.Helper()
	a := o.job(id)
	if a.text("state") != state {
		o.t.Fatalf("the job is %s, want %s: %s", a.text("state"), state, a.body)
	}
	return a
}

// acts are what operators did here: who, what and the result.
func (o *ops) acts() (all []string) {
	o.t.Helper()
	for e, err := range o.store.Read(context.Background(), events.OpsStream(o.name), events.Range{}) {
		must(o.t, err)
		p := e.Payload.(events.OpsActed)
		all = append(all, strings.TrimSpace(e.Actor+" "+p.What+" "+p.Result))
	}
	return all
}

// acted checks that the last act was this one.
func (o *ops) acted(want string) {
	o.t.Helper()
	all := o.acts()
	if len(all) == 0 || all[len(all)-1] != want {
		o.t.Fatalf("the acts are %q, the last should be %q", all, want)
	}
}

var errWork = errors.New("the work cannot be done")
