package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

// patience bounds how long one message is sent again, and how long the regions may take to
// become equal once all messages are accepted.
const patience = 2 * time.Minute

// replay plays a conversation and checks what became of it.
func replay(ctx context.Context, o options, out io.Writer) error {
	lines, err := readConversation(o.replay)
	if err != nil {
		return err
	}
	c, err := dial(ctx, o.url)
	if err != nil {
		return err
	}
	p := &play{client: c, options: o, out: out, clock: events.NewClock(time.Now), rooms: map[string]string{}}
	if err := p.prepare(ctx, lines); err != nil {
		return err
	}
	if err := p.send(ctx, lines); err != nil {
		return err
	}
	return p.check(ctx)
}

// play is one replay under way.
type play struct {
	*client
	options options
	out     io.Writer
	clock   *events.Clock
	owner   string            // a user of this replay's own: her rooms are its rooms
	rooms   map[string]string // ids by name
	sent    []sent

	retries, repeats atomic.Int64
}

// sent is a message with the id it is sent under.
type sent struct {
	line
	id events.ID
}

// prepare creates the rooms, lets everyone join, and waits until all regions know.
func (p *play) prepare(ctx context.Context, lines []line) error {
	names, authors := members(lines)
	owner, err := p.clock.Mint("owner")
	if err != nil {
		return err
	}
	p.owner = "owner-" + strings.ToLower(owner.String())
	for _, name := range names {
		id, err := p.clock.Mint(p.owner)
		if err != nil {
			return err
		}
		p.rooms[name] = id.String()
		room := "/v1/rooms/" + id.String()
		if err := p.must(ctx, "PUT", p.regions[0].URL+room, p.owner, map[string]any{"name": name}, nil); err != nil {
			return err
		}
		for _, author := range authors[name] {
			if err := p.must(ctx, "PUT", p.home(author).URL+room+"/members/"+author, author, nil, nil); err != nil {
				return err
			}
		}
		for _, r := range p.regions {
			for _, author := range authors[name] {
				if err := p.must(ctx, "GET", r.URL+room+"/members/"+author, author, nil, nil); err != nil {
					return err
				}
			}
		}
	}
	fmt.Fprintf(p.out, "%d messages, %d rooms, regions %s\n", len(lines), len(names), p.regionNames())
	return nil
}

// home is the region an author sends to while it answers.
func (p *play) home(author string) region {
	return p.regions[p.homeIndex(author)]
}

func (p *play) homeIndex(author string) int {
	mark := events.Mark(author)
	return int(mark[0]) % len(p.regions)
}

func (p *play) regionNames() string {
	names := make([]string, len(p.regions))
	for i, r := range p.regions {
		names[i] = r.Name
	}
	return strings.Join(names, ", ")
}

// send plays the lines, each under an id that sorts after the one before it in its room.
func (p *play) send(ctx context.Context, lines []line) error {
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan sent)
	for range p.options.conns {
		group.Go(func() error {
			for s := range work {
				if err := p.post(ctx, s); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		return p.dispatch(ctx, lines, start, work)
	})
	if err := group.Wait(); err != nil {
		return errors.Join(err, p.mend(context.WithoutCancel(ctx)))
	}
	took := time.Since(start)
	fmt.Fprintf(p.out, "accepted %d in %.1f s, %.0f/s; sent again %d times, of which %d had been stored already\n",
		len(p.sent), took.Seconds(), float64(len(p.sent))/took.Seconds(), p.retries.Load(), p.repeats.Load())
	return nil
}

// dispatch mints the ids in the order of the conversation and hands the messages out at their
// time. With faults one region fails and one is isolated from a fifth of the way to three.
func (p *play) dispatch(ctx context.Context, lines []line, start time.Time, work chan<- sent) error {
	last := map[string]events.ID{}
	for i, l := range lines {
		if p.options.faults && i == len(lines)/5 {
			if err := p.breakRegions(ctx); err != nil {
				return err
			}
		}
		if p.options.faults && i == len(lines)*3/5 {
			if err := p.mend(ctx); err != nil {
				return err
			}
		}
		due := time.Now()
		if p.options.speed > 0 {
			due = start.Add(time.Duration(float64(l.At.Sub(lines[0].At)) / p.options.speed))
		}
		id, err := p.mint(ctx, l.Author, last[l.Room])
		if err != nil {
			return err
		}
		if ahead := id.Timestamp().Add(-5 * time.Second); ahead.After(due) {
			due = ahead // the server takes ids of the next 10 s
		}
		if err := sleep(ctx, time.Until(due)); err != nil {
			return err
		}
		if p.options.speed > 0 { // the id carries the time it was sent
			if id, err = p.mint(ctx, l.Author, last[l.Room]); err != nil {
				return err
			}
		}
		last[l.Room] = id
		s := sent{l, id}
		p.sent = append(p.sent, s)
		select {
		case work <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (p *play) mint(ctx context.Context, author string, cause events.ID) (events.ID, error) {
	for {
		id, err := p.clock.Mint(author, cause)
		if !errors.Is(err, events.ErrIDFuture) {
			return id, err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil { // the room runs ahead of the time
			return id, err
		}
	}
}

func (p *play) breakRegions(ctx context.Context) error {
	if len(p.regions) < 3 {
		return errors.New("-faults takes three regions")
	}
	failing, isolated := p.regions[0].Name, p.regions[1].Name
	fmt.Fprintf(p.out, "%s fails, %s is isolated\n", failing, isolated)
	if err := p.set(ctx, failing, "failing"); err != nil {
		return err
	}
	return p.set(ctx, isolated, "isolated")
}

func (p *play) mend(ctx context.Context) error {
	if !p.options.faults {
		return nil
	}
	for _, r := range p.regions {
		if err := p.set(ctx, r.Name, "up"); err != nil {
			return err
		}
	}
	fmt.Fprintln(p.out, "all regions are mended")
	return nil
}

// post sends one message until it is accepted, to the author's region first, then to the next.
func (p *play) post(ctx context.Context, s sent) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path := "/v1/rooms/" + p.rooms[s.Room] + "/messages/" + s.id.String()
	body := map[string]string{"text": s.Text}
	for try := 0; ; try++ {
		to := p.regions[(p.homeIndex(s.Author)+try)%len(p.regions)]
		status, err := p.do(ctx, "PUT", to.URL+path, s.Author, body, nil)
		switch {
		case err == nil && status == http.StatusOK:
			p.repeats.Add(1)
			return nil
		case err == nil && status == http.StatusCreated:
			return nil
		case err == nil && status < 500 && status != http.StatusTooManyRequests:
			return fmt.Errorf("a message was refused for good: status %d", status)
		}
		p.retries.Add(1)
		if err := sleep(ctx, time.Duration(min(try, 20))*10*time.Millisecond); err != nil {
			return fmt.Errorf("a message was not accepted within %s: last status %d: %w", patience, status, err)
		}
	}
}

// check waits until every region answers with exactly what was sent.
func (p *play) check(ctx context.Context) error {
	start := time.Now()
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range p.regions {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			var differs error
			err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
				differs = p.compare(ctx, r)
				return differs == nil, nil
			})
			if err != nil {
				return fmt.Errorf("%s never became equal: %w", r.Name, differs)
			}
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(p.out, "%s: the same %d rooms and %d messages in the same order, %.1f s after the last was accepted\n",
				r.Name, len(p.rooms), len(p.sent), time.Since(start).Seconds())
			return nil
		})
	}
	return group.Wait()
}

// compare says how a region's answers differ from what was sent.
func (p *play) compare(ctx context.Context, r region) error {
	var inbox struct {
		Rooms []struct{ ID, Name string } `json:"rooms"`
	}
	if status, err := p.do(ctx, "GET", r.URL+"/v1/rooms?limit=200", p.owner, nil, &inbox); err != nil || status != http.StatusOK {
		return fmt.Errorf("list rooms: status %d: %w", status, err)
	}
	if len(inbox.Rooms) != len(p.rooms) {
		return fmt.Errorf("%d rooms, not %d", len(inbox.Rooms), len(p.rooms))
	}
	for _, room := range inbox.Rooms {
		if p.rooms[room.Name] != room.ID {
			return fmt.Errorf("room %s has another name", room.ID)
		}
		if err := p.compareRoom(ctx, r, room.Name); err != nil {
			return fmt.Errorf("room %q: %w", room.Name, err)
		}
	}
	return nil
}

func (p *play) compareRoom(ctx context.Context, r region, name string) error {
	var want []sent
	for _, s := range p.sent {
		if s.Room == name {
			want = append(want, s)
		}
	}
	after := events.ID{}.String()
	for next := 0; ; {
		var page struct {
			Messages []struct{ ID, Author, Text string } `json:"messages"`
			After    *string                             `json:"after"`
		}
		url := r.URL + "/v1/rooms/" + p.rooms[name] + "/messages?limit=200&after=" + after
		if status, err := p.do(ctx, "GET", url, p.owner, nil, &page); err != nil || status != http.StatusOK {
			return fmt.Errorf("list messages: status %d: %w", status, err)
		}
		for _, m := range page.Messages {
			if next == len(want) {
				return fmt.Errorf("more than the %d messages sent", len(want))
			}
			if w := want[next]; m.ID != w.id.String() || m.Author != w.Author || m.Text != w.Text {
				return fmt.Errorf("message %d of %d is another", next+1, len(want))
			}
			next++
		}
		if page.After == nil {
			if next < len(want) {
				return fmt.Errorf("%d messages, not %d", next, len(want))
			}
			return nil
		}
		after = *page.After
	}
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
