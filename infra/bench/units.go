package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/functions/stream"
)

// compareUnits prints what each kind of event costs on DynamoDB, and what the messages of a
// conversation cost, all told.
func compareUnits(ctx context.Context, o options, _ *binaries, out io.Writer) error {
	server, err := dynamolocal.Start(ctx, dynamolocal.Options{})
	if err != nil {
		return err
	}
	defer server.Close()
	client := dynamolocal.NewClient()
	defer client.CloseIdleConnections()
	place := dynamolocal.Endpoint{URL: server.URL, Client: client}
	if err := printKinds(ctx, place, out); err != nil {
		return err
	}
	lines, err := readConversation(o.conversation)
	if err != nil {
		return err
	}
	costs, err := measureConversation(ctx, place, lines)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n   each of the %d messages of %s:\n", len(lines), o.conversation)
	fmt.Fprintf(out, "   %-28s %s\n", "", heading)
	for _, batch := range batches {
		fmt.Fprintf(out, "   %-28s %s\n", batchName(batch), costs[batch])
	}
	fmt.Fprintf(out, "   aims: at most 3 write units all told, and 2.2 where batches are full\n")
	return nil
}

// batches are the sizes of batches under which events are measured: each for itself where traffic
// is sparse, and full ones where it is not.
var batches = [...]int{1, 100, 1000}

func batchName(batch int) string {
	if batch == 1 {
		return "sparse: one by one"
	}
	return fmt.Sprintf("full: batches of %d", batch)
}

// cost is what one event costs in one region, on average: the units of the log and of the views,
// and of the reads those that the command makes and those that the stream function makes.
type cost struct {
	Log, Views      float64 // write units
	Command, Stream float64 // read units
}

const heading = "  log   views  writes   read by command  by stream"

func (c cost) writes() float64 { return c.Log + c.Views }

func (c cost) String() string {
	return fmt.Sprintf("%5.3f   %5.3f   %5.3f   %15.3f  %9.3f", c.Log, c.Views, c.writes(), c.Command, c.Stream)
}

// over is the sum of units, by the event.
func (c cost) over(events int) cost {
	n := float64(events)
	return cost{c.Log / n, c.Views / n, c.Command / n, c.Stream / n}
}

func printKinds(ctx context.Context, place dynamolocal.Endpoint, out io.Writer) error {
	for _, batch := range batches {
		fmt.Fprintf(out, "   %-28s %s\n", batchName(batch), heading)
		for _, k := range kinds() {
			if batch > 1 && k.alone {
				continue
			}
			c, err := k.measure(ctx, place, batch)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			fmt.Fprintf(out, "     %-26s %s\n", k.name, c)
		}
	}
	return nil
}

// measureConversation posts a conversation and handles it under each size of batches. The views
// of each size are tables of their own: the conversation is posted once.
func measureConversation(ctx context.Context, place dynamolocal.Endpoint, lines []line) (map[int]cost, error) {
	r, err := openMetered(ctx, place)
	if err != nil {
		return nil, err
	}
	if err := r.post(ctx, lines); err != nil {
		return nil, err
	}
	accepted, records := r.take(r.viewsTable), r.log.take()
	costs := map[int]cost{}
	for _, batch := range batches {
		table := fmt.Sprint("views-", batch)
		handler, err := r.streamInto(ctx, table)
		if err != nil {
			return nil, err
		}
		if err := handleAll(ctx, handler, records, batch); err != nil {
			return nil, err
		}
		costs[batch] = accepted.and(r.take(table)).over(len(lines))
	}
	return costs, nil
}

// post makes the rooms of a conversation and their members, and posts it.
func (r *metered) post(ctx context.Context, lines []line) error {
	names, authors := members(lines)
	rooms := map[string]string{}
	var before []said
	for _, name := range names {
		id, err := r.clock.Mint("owner")
		if err != nil {
			return err
		}
		rooms[name] = id.String()
		stream := events.RoomStream(id.String())
		before = append(before, said{"owner", stream, events.RoomCreated{Name: name}, id})
		for _, author := range authors[name] {
			before = append(before, said{author, stream, events.MemberJoined{User: author, Role: events.RoleMember}, events.ID{}})
		}
	}
	if _, err := r.given(ctx, before); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, l := range lines {
		group.Go(func() error {
			body, err := json.Marshal(map[string]string{"text": l.Text})
			if err != nil {
				return err
			}
			return r.send(ctx, "POST", "/v1/rooms/"+rooms[l.Room]+"/messages", l.Author, string(body))
		})
	}
	return group.Wait()
}

// handleAll hands the records to the stream function in batches. All of them must be handled and
// none parked, or they cost what they should not.
func handleAll(ctx context.Context, h *stream.Handler, records []stream.Record, batch int) error {
	bus := &countingBus{}
	h.Bus = bus
	for rest := records; len(rest) > 0; {
		n := min(batch, len(rest))
		if _, err := h.Handle(ctx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	if bus.taken != len(records) {
		return errors.New("not every event was published: the others were parked")
	}
	return nil
}
