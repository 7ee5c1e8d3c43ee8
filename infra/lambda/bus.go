package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"parley/functions/stream"
)

// bus is an EventBridge bus.
type bus struct {
	client *eventbridge.Client
	name   string
}

var _ stream.Bus = (*bus)(nil)

// openBus makes sure that there is a bus of this name: PutEvents to one that is not there answers
// success, and the events are gone. The function's role needs events:DescribeEventBus for it.
func openBus(ctx context.Context, cloud aws.Config, name string) (*bus, error) {
	b := &bus{eventbridge.NewFromConfig(cloud), name}
	_, err := b.client.DescribeEventBus(ctx, &eventbridge.DescribeEventBusInput{Name: aws.String(name)})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("there is no event bus %q in this region", name)
	}
	if err != nil {
		return nil, fmt.Errorf("look up the event bus %q: %w", name, err)
	}
	return b, nil
}

// Publish implements [stream.Bus].
func (b *bus) Publish(ctx context.Context, entries []stream.Entry) ([]error, error) {
	request := make([]types.PutEventsRequestEntry, len(entries))
	for i, e := range entries {
		request[i] = types.PutEventsRequestEntry{
			EventBusName: aws.String(b.name),
			Source:       aws.String(e.Source),
			DetailType:   aws.String(e.DetailType),
			Detail:       aws.String(string(e.Detail)),
			Time:         aws.Time(e.Time),
		}
	}
	answer, err := b.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: request})
	if err != nil {
		return nil, fmt.Errorf("put %d events on the bus: %w", len(entries), err)
	}
	if len(answer.Entries) != len(entries) {
		return nil, fmt.Errorf("put %d events on the bus: the answer is about %d", len(entries), len(answer.Entries))
	}
	refused := make([]error, len(entries))
	for i, e := range answer.Entries {
		if e.ErrorCode != nil {
			refused[i] = fmt.Errorf("the bus refuses it: %s: %s", *e.ErrorCode, aws.ToString(e.ErrorMessage))
		}
	}
	return refused, nil
}
