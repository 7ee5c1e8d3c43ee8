// Package operate is what runs when an operator asks: how a region is, its parked events, its raw
// log, drain, and the jobs behind what takes long. Everything an operator does is itself an event,
// ops.acted, in the region's stream ops/<region>.
//
// It cannot publish to ordinary subscribers, nor notify clients: a replay has a [stream.ReplayBus] and
// no other bus.
package operate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// Config is what the operators' API works on, all of one region.
type Config struct {
	Region string
	Log    events.Log
	Views  projections.Views
	Clock  *events.Clock
	Keys   *keys.Ring // encrypts what is imported, decrypts what operators read
	Runner *Runner    // of the jobs; it need not be running here

	// Generations are those of the views; Views are those that are read.
	Generations *projections.Generations

	// Health is the report of GET /health.
	Health func(context.Context) wire.Health
	// Retry handles a parked event again, as the stream function does. If the event is parked again,
	// that is an error.
	Retry func(context.Context, events.Event) error
}

// handlers are what the operations of all chapters share.
type handlers struct {
	Config
	acts  Acts
	reads *reads
}

// Register adds the operators' operations to an API.
func Register(a *api.API, c Config) {
	a.Describe(reflect.TypeFor[wire.RawEvent](), reflect.TypeFor[rawEvent]())
	a.Describe(reflect.TypeFor[wire.JobResult](), reflect.TypeFor[jobResult]())
	h := &handlers{c, Acts{c.Region, c.Log, c.Clock}, &reads{recorded: map[string]bool{}}}
	statusHandlers{h}.register(a)
	parkedHandlers{h}.register(a)
	eventHandlers{h}.register(a)
	jobHandlers{h}.register(a)
	generationHandlers{h}.register(a)
	digestHandlers{h}.register(a)
	eraseHandlers{h}.register(a)
	ownerHandlers{h}.register(a)
}

// rawEvent is the schema of a [wire.RawEvent].
type rawEvent struct{}

// Schema implements [huma.SchemaProvider].
func (rawEvent) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Description: "id, stream, type, version, actor, region and data, as Event. data is a string where it cannot be read.",
	}
}

// jobResult is the schema of a [wire.JobResult].
type jobResult struct{}

// Schema implements [huma.SchemaProvider].
func (jobResult) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: "By kind of job."}
}

// query registers an operation that changes nothing, for operators only.
func query[I, O any](a *api.API, op api.Operation, handler func(context.Context, *I) (*api.Response[O], error)) {
	op.Tag, op.Operator = "ops", true
	api.Query(a, op, handler)
}

// command registers an operation that changes something, for operators only.
func command[I, O any](a *api.API, op api.Operation, handler func(context.Context, *I) (*api.Response[O], error)) {
	op.Tag, op.Operator = "ops", true
	api.Command(a, op, handler)
}

// newID mints the id of what an operator starts, or checks the client's. It sorts after the causes.
func (h *handlers) newID(user, key string, causes ...events.ID) (events.ID, error) {
	if key == "" {
		return h.Clock.Mint(user, causes...)
	}
	const field = "Idempotency-Key"
	id, err := events.ParseID(field, key)
	if err != nil {
		return id, err
	}
	return id, h.Clock.Check(user, id, causes...)
}

// act records what the caller did to a target, and its result.
func (h *handlers) act(ctx context.Context, what, target, result string) error {
	return h.acts.Append(ctx, api.CallerOf(ctx).User, what, target, result)
}

// reads are the reads of content that this process has recorded in the current hour.
type reads struct {
	mu       sync.Mutex
	hour     time.Time
	recorded map[string]bool
}

// actRead records that the caller reads content that is not theirs, before they get it: one act for an
// operator, what they read, and an hour in each process, however many pages it has. So an export is one
// act, and so is a stream that is followed.
func (h *handlers) actRead(ctx context.Context, what, target string) error {
	h.reads.mu.Lock()
	defer h.reads.mu.Unlock()
	if hour := h.Clock.Now().Truncate(time.Hour); !hour.Equal(h.reads.hour) {
		h.reads.hour = hour
		clear(h.reads.recorded)
	}
	key := api.CallerOf(ctx).User + " " + what + " " + target
	if h.reads.recorded[key] {
		return nil
	}
	if err := h.act(ctx, what, target, ""); err != nil {
		return err
	}
	h.reads.recorded[key] = true
	return nil
}

// Acts records what operators do, in the region's stream of it.
type Acts struct {
	Region string
	Log    events.Log
	Clock  *events.Clock
}

// appendTries is how often an act is appended before that fails.
const appendTries = 3

// Append records what a user did to a target, and its result. The texts are cut to what an event
// may hold.
func (a Acts) Append(ctx context.Context, user, what, target, result string) error {
	id, err := a.Clock.Mint(user)
	if err != nil {
		return err
	}
	act := events.OpsActed{What: what, Target: oneLine(target), Result: oneLine(result)}
	e, err := events.New(id, events.OpsStream(a.Region), user, a.Region, act)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		_, _, err := a.Log.Append(ctx, e) // the same event: once is enough
		if err == nil {
			return nil
		}
		if try == appendTries || ctx.Err() != nil || errors.Is(err, events.ErrUnavailable) {
			return fmt.Errorf("record what an operator did: %w", err)
		}
	}
}

// oneLine returns a text as an act may hold it: one line, and not too long.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > events.MaxResultChars {
		text = string(runes[:events.MaxResultChars-1]) + "…"
	}
	return text
}

// errBusy: others change the same thing all the time.
var errBusy error = &wire.Problem{
	Status: http.StatusServiceUnavailable, Code: "busy", Retryable: true,
	Detail: "others change the same thing at the same time; nothing was changed; send it again",
}

// retryOnConflict is [projections.RetryOnConflict] for a document that operators and runners change:
// after too many conflicts the error is errBusy.
func retryOnConflict(ctx context.Context, write func() error) error {
	err := projections.RetryOnConflict(ctx, write)
	if errors.Is(err, projections.ErrTooManyConflicts) {
		return errBusy
	}
	return err
}
