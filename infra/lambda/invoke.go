package main

import (
	"context"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

// function is one of the functions: it takes an event and answers, both JSON. An error fails
// the invocation, and whoever invoked it decides what then.
type function func(ctx context.Context, payload []byte) ([]byte, error)

// invoker is what Lambda's runtime calls. It is given the bytes of an event and hands them on:
// nothing is decoded twice.
type invoker struct {
	function function
	meter    *meter
}

var _ lambda.Handler = (*invoker)(nil)

// Invoke implements [lambda.Handler]. What the invocation has counted is written even if it
// fails or panics: it has been done.
func (i *invoker) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	ctx, cancel := early(ctx, time.Now())
	defer cancel()
	t := &tally{}
	defer i.meter.write(t)
	return i.function(withTally(ctx, t), payload)
}

// margin is how long before Lambda kills a function its context ends, so that it can still say
// how far it came.
const margin = 500 * time.Millisecond

// early returns a context that ends a bit before ctx does; at most a quarter of the time is kept
// back.
func early(ctx context.Context, now time.Time) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(margin, max(0, deadline.Sub(now)/4))))
}
