// Package operate is what runs when an operator asks: how a region is, its parked events, its raw
// log, drain, and the jobs behind what takes long. Everything an operator does is itself an event,
// ops.acted, in the region's stream ops/<region>.
//
// It cannot publish to ordinary subscribers nor push: a replay goes through [Bus] alone, under a
// source and detail types of its own.
package operate

import (
	"context"
	"net/http"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/projections"
)

// Config is what the operators' API works on, all of one region.
type Config struct {
	Region string
	Log    events.Log
	Views  projections.Views
	Clock  *events.Clock
	Keys   *keys.Ring // seals what is imported, opens what is looked at
	Runner *Runner    // of the jobs; it need not be running here

	// Generations are those of the views; Views are those that are read.
	Generations *projections.Generations

	// Health is the report of GET /health.
	Health func(context.Context) Health
	// Retry handles an event again that was parked, as the stream function does. Where it is parked
	// again, with its new error, that is an error.
	Retry func(context.Context, events.Event) error
}

// Health is how a region is: what GET /health answers, see [parley/functions/health].
type Health struct {
	Region    string             `json:"region"`
	Status    string             `json:"status" doc:"ok, drained or failing."`
	Error     string             `json:"error,omitempty" doc:"Which part does not work."`
	Stages    map[string]float64 `json:"stages,omitempty" doc:"Seconds that the oldest event a stage has not handled has waited."`
	Frontiers map[string]float64 `json:"frontiers" doc:"Seconds since the last beat heard of each region was made. Beats come once a minute."`
}

// handlers are the operations, by subject in the files of this package.
type handlers struct {
	Config
	acts Acts
}

// Register adds the operators' operations to an API.
func Register(a *api.API, c Config) {
	h := &handlers{c, Acts{c.Region, c.Log, c.Clock}}
	h.registerStatus(a)
	h.registerParked(a)
	h.registerEvents(a)
	h.registerJobs(a)
	h.registerGenerations(a)
	h.registerDigests(a)
	h.registerErase(a)
}

// query registers an operation that changes nothing, for operators only.
func query[I, O any](a *api.API, op api.Operation, handler func(context.Context, *I) (*output[O], error)) {
	op.Tag, op.Operator = "ops", true
	api.Query(a, op, handler)
}

// command registers an operation that changes something, for operators only.
func command[I, O any](a *api.API, op api.Operation, handler func(context.Context, *I) (*output[O], error)) {
	op.Tag, op.Operator = "ops", true
	api.Command(a, op, handler)
}

// output is an answer.
type output[T any] struct {
	Status int
	Body   T
}

func ok[T any](body T) *output[T] { return &output[T]{http.StatusOK, body} }
