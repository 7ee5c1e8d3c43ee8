package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/dynamoview"
)

// The stream function as AWS runs it when the table has several shards: lanes by stream, each with one batch
// at a time, and each batch on any process. An instance of the functions with caches of its own plays a
// process.
const (
	shardLanes  = 4
	shardBatch  = 100
	shardRecent = 1000 // records of one batch, each of another room
)

// history is how many rooms there are before anything is measured, and how many messages each has had, each of
// them in a batch of its own.
type history struct{ rooms, messages int }

// shards prints what the stream function reads and how fast it is with many shards and processes.
func (b *bench) shards(ctx context.Context) error {
	if err := onDynamoDB(ctx, func(place dynamolocal.Endpoint) error {
		for _, h := range []history{{5000, 16}, {100, 1024}} {
			if err := b.coldRooms(ctx, place, h); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	var one, four, limit []float64
	if err := onDynamoDB(ctx, func(place dynamolocal.Endpoint) error {
		for round := range b.rounds + 1 {
			alone, _, err := projectRate(ctx, place, 1)
			if err != nil {
				return err
			}
			many, saves, err := projectRate(ctx, place, shardLanes)
			if err != nil {
				return err
			}
			saved, err := saveRate(ctx, place, 4000)
			if err != nil {
				return err
			}
			if round > 0 { // the first warms up
				one, four, limit = append(one, alone), append(four, many), append(limit, saved/saves)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	b.printf("   messages projected and published, batches of %d; events/s, median of %d\n", shardBatch, b.rounds)
	b.printf("     DynamoDB Local, bare saves of as many views   %8.0f\n", median(limit))
	b.printf("     1 lane, 1 process                             %8.0f   %.2f of it\n", median(one), median(one)/median(limit))
	b.printf("     %d lanes, %d processes                          %8.0f   %.2f of it; %.2f of 1 and 1\n",
		shardLanes, shardLanes, median(four), median(four)/median(limit), median(four)/median(one))
	return nil
}

// coldCost is what a message costs in a room that no process has in its cache.
type coldCost struct {
	read, views float64 // request units, with many shards and processes
	batch       int     // records of one batch, each of another room
	took        time.Duration
}

func (b *bench) coldRooms(ctx context.Context, place dynamolocal.Endpoint, h history) error {
	c, err := h.measure(ctx, place)
	if err != nil {
		return err
	}
	b.printf("   %d rooms, each with %d messages that came one by one\n", h.rooms, h.messages)
	b.printf("     read units a message, %d lanes, %d processes  %8.2f; write units in the views %.2f\n", shardLanes, shardLanes, c.read, c.views)
	b.printf("     a batch of %4d records of as many rooms, cold %7.2f s, %.2f ms a record\n", c.batch, c.took.Seconds(), 1e3*c.took.Seconds()/float64(c.batch))
	return nil
}

// measure handles a message to each room in batches of [shardBatch], then one to each of up to
// [shardRecent] rooms in a single batch.
func (h history) measure(ctx context.Context, place dynamolocal.Endpoint) (coldCost, error) {
	r, err := openMetered(ctx, place)
	if err != nil {
		return coldCost{}, err
	}
	rooms, err := r.oldRooms(ctx, h)
	if err != nil {
		return coldCost{}, err
	}
	rand.Shuffle(len(rooms), func(i, j int) { rooms[i], rooms[j] = rooms[j], rooms[i] })
	records, err := r.messages(rooms)
	if err != nil {
		return coldCost{}, err
	}
	processes := r.instances(shardLanes)
	r.meter.Take()
	for _, lane := range lanesOf(records, shardLanes) {
		for batch := range slices.Chunk(lane, shardBatch) {
			if _, err := processes[rand.IntN(len(processes))].Handle(ctx, batch); err != nil {
				return coldCost{}, err
			}
		}
	}
	used := r.used("views")
	if records, err = r.messages(rooms[:min(shardRecent, len(rooms))]); err != nil {
		return coldCost{}, err
	}
	cold, start := r.instances(1)[0], time.Now()
	_, err = cold.Handle(ctx, records)
	n := float64(len(rooms))
	return coldCost{used.read / n, used.views / n, len(records), time.Since(start)}, err
}

// oldRooms makes the rooms of a history. One gets its feed from the stream function, the others a copy of
// it, because making each would take hours.
func (r *metered) oldRooms(ctx context.Context, h history) ([]events.Stream, error) {
	rooms := make([]events.Stream, h.rooms)
	for i := range rooms {
		id, err := r.clock.Mint("owner")
		if err != nil {
			return nil, err
		}
		rooms[i] = events.RoomStream(id.String())
	}
	records, err := r.messages(slices.Repeat(rooms[:1], h.messages))
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		if _, err := r.stream.Handle(ctx, []events.Record{record}); err != nil {
			return nil, err
		}
	}
	views := dynamoview.New(r.place.Config(meteredRegion), "views")
	var feed []projections.View
	for after, more := (projections.Key{}), true; more; more = after != (projections.Key{}) {
		var page []projections.View
		if page, after, err = views.Scan(ctx, []string{"feed/" + string(rooms[0])}, after, 1000); err != nil {
			return nil, err
		}
		feed = append(feed, page...)
	}
	if len(feed) != h.messages {
		return nil, fmt.Errorf("%d messages that came one by one are in %d segments of a feed", h.messages, len(feed))
	}
	return rooms, forEach(ctx, h.rooms-1, 4, func(ctx context.Context, i int) error {
		copies := slices.Clone(feed)
		for j, view := range copies {
			copies[j].Version = 0
			copies[j].Key.Partition = strings.Replace(view.Key.Partition, string(rooms[0]), string(rooms[i+1]), 1)
		}
		return views.Save(ctx, copies...)
	})
}

// messages returns the records of a new message in each room. They are not in the log: nothing reads them
// there.
func (r *metered) messages(rooms []events.Stream) ([]events.Record, error) {
	records := make([]events.Record, len(rooms))
	for i, room := range rooms {
		e, err := r.newEvent(user(i), room, events.MessagePosted{Text: events.Plain(text)})
		if err != nil {
			return nil, err
		}
		records[i] = r.log.record(e)
	}
	return records, nil
}

// instances returns the stream functions of new processes.
func (r *metered) instances(n int) []*stream.Handler {
	all := make([]*stream.Handler, n)
	for i := range all {
		all[i] = r.over("views").Stream()
	}
	return all
}

// lanesOf spreads records over lanes by their streams.
func lanesOf(records []events.Record, n int) [][]events.Record {
	lanes := make([][]events.Record, n)
	for _, record := range records {
		for i := range lanes {
			if (events.Part{Index: i, Of: n}).Holds(record.Event.Stream) {
				lanes[i] = append(lanes[i], record)
			}
		}
	}
	return lanes
}

// projectRate returns how many events a second lanes handle, with as many processes, and how many views are
// saved for each.
func projectRate(ctx context.Context, place dynamolocal.Endpoint, lanes int) (rate, saves float64, err error) {
	const rooms, messages = 1000, 2000
	r, err := openMetered(ctx, place)
	if err != nil {
		return 0, 0, err
	}
	all := make([]events.Stream, messages)
	for i := range all {
		all[i] = events.RoomStream(events.ID{1, 14: byte(i % rooms / 256), 15: byte(i % rooms)}.String())
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	records, err := r.messages(all)
	if err != nil {
		return 0, 0, err
	}
	processes := &pool{free: r.instances(lanes)}
	processes.wait.L = &processes.mu
	r.meter.Take()
	start := time.Now()
	err = forEach(ctx, lanes, lanes, func(ctx context.Context, i int) error {
		for batch := range slices.Chunk(lanesOf(records, lanes)[i], shardBatch) {
			if err := processes.handle(ctx, batch); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	rate = messages / time.Since(start).Seconds()
	for use, n := range r.meter.Take() {
		if use.Table == "views" && use.Operation == "PutItem" {
			saves += float64(n.Calls) / messages
		}
	}
	return rate, saves, nil
}

// saveRate returns how many views a second are saved, in calls of [shardBatch], four at a time.
func saveRate(ctx context.Context, place dynamolocal.Endpoint, n int) (float64, error) {
	const table = "bare"
	place.Key = dynamolocal.NewKey()
	cfg := place.Config(meteredRegion)
	if err := dynamoview.CreateTable(ctx, cfg, table); err != nil {
		return 0, err
	}
	views, body := dynamoview.New(cfg, table), []byte(`{"text":"`+text+`"}`)
	start := time.Now()
	err := forEach(ctx, n/shardBatch, shardLanes, func(ctx context.Context, i int) error {
		batch := make([]projections.View, shardBatch)
		for j := range batch {
			batch[j] = projections.View{Key: projections.Key{Partition: fmt.Sprint("bare/", i), Sort: dynamolocal.NewKey()}, Body: body}
		}
		return views.Save(ctx, batch...)
	})
	return float64(n) / time.Since(start).Seconds(), err
}

// pool is the processes of a function. A batch gets a free one, chosen at random.
type pool struct {
	mu   sync.Mutex
	wait sync.Cond
	free []*stream.Handler
}

var errLeft = errors.New("a batch was not handled")

func (p *pool) handle(ctx context.Context, batch []events.Record) error {
	p.mu.Lock()
	for len(p.free) == 0 {
		p.wait.Wait()
	}
	i := rand.IntN(len(p.free))
	h := p.free[i]
	p.free = slices.Delete(p.free, i, i+1)
	p.mu.Unlock()
	done, err := h.Handle(ctx, batch)
	p.mu.Lock()
	p.free = append(p.free, h)
	p.mu.Unlock()
	p.wait.Signal()
	if err == nil && done < len(batch) {
		err = errLeft
	}
	return err
}
