package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/functions/wire"
)

// patience bounds how long one message is retried, and how long the regions may take to agree after
// all messages are accepted.
const patience = 2 * time.Minute

// play is a replay under way.
type play struct {
	*client
	options options
	out     io.Writer
	clock   *events.Clock
	marks   map[string]events.Mark // by user
	owner   string                 // a user of this replay alone, who has its rooms and no others
	rooms   map[string]string      // ids by name
	sent    []sent

	retries, repeats atomic.Int64
	twice            atomic.Int64 // ids whose two contents were both accepted
}

// twoContents is how many messages there are to one whose id is sent with two contents.
const twoContents = 50

// sent is a message with the id under which it is sent.
type sent struct {
	line
	id    events.ID
	other string // another text, sent under the same id to another region at once; "": none
}

// replay plays a conversation and checks that every region has exactly that.
func replay(ctx context.Context, c *client, o options, out io.Writer) error {
	lines, err := readConversation(o.replay)
	if err != nil {
		return err
	}
	if o.faults && len(c.regions) < 3 {
		return errors.New("-faults needs three regions")
	}
	p := &play{client: c, options: o, out: out, marks: map[string]events.Mark{}, rooms: map[string]string{}}
	p.clock = events.NewClock(time.Now, func(user string) events.Mark { return p.marks[user] })
	if err := p.prepare(ctx, lines); err != nil {
		return err
	}
	if err := p.send(ctx, lines); err != nil {
		if o.faults {
			err = errors.Join(err, p.setStates(context.WithoutCancel(ctx), "up", "up"))
		}
		return err
	}
	return p.check(ctx)
}

// prepare creates the rooms, lets all authors join, and waits until all regions know the members.
func (p *play) prepare(ctx context.Context, lines []line) error {
	names, authors := members(lines)
	p.owner = "owner-" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	if err := p.getMark(ctx, p.owner); err != nil {
		return err
	}
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
			if err := p.getMark(ctx, author); err != nil {
				return err
			}
			if err := p.must(ctx, "PUT", p.region(author, 0).URL+room+"/members/"+author, author, nil, nil); err != nil {
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
	var regions []string
	for _, r := range p.regions {
		regions = append(regions, r.Name)
	}
	fmt.Fprintf(p.out, "%d messages, %d rooms, regions %s\n", len(lines), len(names), strings.Join(regions, ", "))
	return nil
}

// getMark gets the mark of a user.
func (p *play) getMark(ctx context.Context, user string) error {
	var me wire.Me
	if err := p.must(ctx, "GET", p.regions[0].URL+"/v1/me", user, nil, &me); err != nil {
		return err
	}
	mark, err := events.ParseMark("mark", me.Mark)
	p.marks[user] = mark
	return err
}

// region returns the region for an author's try: the author's own first, then the next ones.
func (p *play) region(author string, try int) region {
	mark := events.FormerMark(author)
	return p.regions[(int(mark[0])%len(p.regions)+try)%len(p.regions)]
}

// send plays the lines, each under an id that sorts after the one before it in its room.
func (p *play) send(ctx context.Context, lines []line) error {
	start := time.Now()
	group, posting := errgroup.WithContext(ctx)
	group.SetLimit(p.options.conns)
	err := p.dispatch(posting, lines, start, func(s sent) { group.Go(func() error { return p.post(posting, s) }) })
	if failed := group.Wait(); failed != nil || err != nil {
		return cmp.Or(failed, err)
	}
	took := time.Since(start)
	fmt.Fprintf(p.out, "accepted %d in %.1f s, %.0f/s; %d retries, %d of them of messages already stored\n",
		len(p.sent), took.Seconds(), float64(len(p.sent))/took.Seconds(), p.retries.Load(), p.repeats.Load())
	return nil
}

// dispatch mints the ids in the order of the conversation and posts each message when it is due.
// With faults, one region fails and one is isolated from a fifth to three fifths of the way.
func (p *play) dispatch(ctx context.Context, lines []line, start time.Time, post func(sent)) error {
	last := map[string]events.ID{}
	for i, l := range lines {
		var err error
		switch {
		case p.options.faults && i == len(lines)/5:
			err = p.setStates(ctx, "failing", "isolated")
		case p.options.faults && i == len(lines)*3/5:
			err = p.setStates(ctx, "up", "up")
		}
		if err != nil {
			return err
		}
		if p.options.speed > 0 {
			due := start.Add(time.Duration(float64(l.At.Sub(lines[0].At)) / p.options.speed))
			if err := events.Sleep(ctx, time.Until(due)); err != nil {
				return err
			}
		}
		s := sent{line: l}
		if s.id, err = p.mint(ctx, l.Author, last[l.Room]); err != nil {
			return err
		}
		if p.options.faults && i%twoContents == 0 {
			s.other = "another text under the same id"
		}
		last[l.Room] = s.id
		p.sent = append(p.sent, s)
		if post(s); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// mint mints an id after another one. Ids of one room may run ahead of the time, so it waits while
// the id is too far ahead for a server, which accepts 10 s.
func (p *play) mint(ctx context.Context, author string, cause events.ID) (events.ID, error) {
	for {
		id, err := p.clock.Mint(author, cause)
		if err == nil {
			return id, events.Sleep(ctx, time.Until(id.Timestamp().Add(-5*time.Second)))
		}
		if !errors.Is(err, events.ErrIDFuture) {
			return id, err
		}
		if err := events.Sleep(ctx, 100*time.Millisecond); err != nil {
			return id, err
		}
	}
}

// setStates sets the states of the first regions.
func (p *play) setStates(ctx context.Context, states ...string) error {
	for i, state := range states {
		region := p.regions[i].Name
		if err := p.must(ctx, "PUT", p.global+"/local/regions/"+region, "", map[string]string{"state": state}, nil); err != nil {
			return err
		}
		fmt.Fprintf(p.out, "%s is %s\n", region, state)
	}
	return nil
}

// post sends one message until it is accepted, and its other text, if it has one, at the same time.
func (p *play) post(ctx context.Context, s sent) error {
	if s.other == "" {
		_, err := p.put(ctx, s, s.Text, 0)
		return err
	}
	var accepted [2]bool
	group, both := errgroup.WithContext(ctx)
	for i, text := range []string{s.Text, s.other} {
		group.Go(func() (err error) {
			accepted[i], err = p.put(both, s, text, i)
			return err
		})
	}
	err := group.Wait()
	if accepted == [2]bool{true, true} {
		p.twice.Add(1)
	}
	return err
}

// put sends a text until it is accepted, to the region of the author's try first, then to the next ones. Of
// a message with two texts one may be refused, because the other was there before.
func (p *play) put(ctx context.Context, s sent, text string, first int) (accepted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path := "/v1/rooms/" + p.rooms[s.Room] + "/messages/" + s.id.String()
	body := map[string]string{"text": text}
	for try := 0; ; try++ {
		status, err := p.do(ctx, "PUT", p.region(s.Author, first+try).URL+path, s.Author, body, nil)
		switch {
		case err == nil && status == http.StatusOK:
			p.repeats.Add(1)
			return true, nil
		case err == nil && status == http.StatusCreated:
			return true, nil
		case err == nil && status == http.StatusConflict && s.other != "":
			return false, nil
		case err == nil && status < 500 && status != http.StatusTooManyRequests:
			return false, fmt.Errorf("a message was refused for good: status %d", status)
		}
		p.retries.Add(1)
		if err := events.Sleep(ctx, time.Duration(min(try, 20))*10*time.Millisecond); err != nil {
			return false, fmt.Errorf("a message was not accepted within %s: last status %d: %w", patience, status, err)
		}
	}
}

// check waits until every region answers with exactly what was sent.
func (p *play) check(ctx context.Context) error {
	start := time.Now()
	for _, r := range p.regions {
		checking, cancel := context.WithTimeout(ctx, patience)
		var differs error
		err := poll(checking, 200*time.Millisecond, func() (bool, error) {
			differs = p.compare(checking, r)
			return differs == nil, nil
		})
		cancel()
		if err != nil {
			return fmt.Errorf("%s still differs after %s: %w", r.Name, patience, differs)
		}
		fmt.Fprintf(p.out, "%s: the same %d rooms and %d messages in the same order, %.1f s after the last was accepted\n",
			r.Name, len(p.rooms), len(p.sent), time.Since(start).Seconds())
	}
	return p.checkTwoContents(ctx)
}

// checkTwoContents waits until every region shows the same text of each message that was sent with two.
func (p *play) checkTwoContents(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pairs := 0
	for _, s := range p.sent {
		if s.other == "" {
			continue
		}
		pairs++
		var texts []string
		err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
			texts = nil
			for _, r := range p.regions {
				var m struct{ Text string }
				url := r.URL + "/v1/rooms/" + p.rooms[s.Room] + "/messages/" + s.id.String()
				if status, err := p.do(ctx, "GET", url, p.owner, nil, &m); err != nil || status != http.StatusOK {
					return false, err
				}
				texts = append(texts, m.Text)
			}
			return len(slices.Compact(slices.Clone(texts))) == 1, nil
		})
		if err != nil {
			return fmt.Errorf("of message %s the regions show the texts %q: %w", s.id, texts, err)
		}
	}
	if pairs > 0 {
		fmt.Fprintf(p.out, "%d ids were sent with two texts, %d accepted with both: every region shows the same of each\n", pairs, p.twice.Load())
	}
	return nil
}

// compare returns how a region's answers differ from what was sent.
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
			if w := want[next]; m.ID != w.id.String() || m.Author != w.Author || m.Text != w.Text && (w.other == "" || m.Text != w.other) {
				return fmt.Errorf("message %d of %d differs", next+1, len(want))
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

// line is one message of a conversation.
type line struct {
	Room   string    `json:"room"`
	Author string    `json:"author"`
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
}

// readConversation reads a file of JSON lines, or generates a conversation if that is its name.
func readConversation(name string) (lines []line, err error) {
	if name == "generated" {
		return generate(11_291, 7, 33), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the conversation: %w", err)
	}
	defer func() { _ = f.Close() }()
	in := json.NewDecoder(bufio.NewReader(f))
	for {
		var l line
		if err := in.Decode(&l); errors.Is(err, io.EOF) && len(lines) > 0 {
			return lines, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the conversation: message %d of %s: %w", len(lines)+1, name, err)
		}
		lines = append(lines, l)
	}
}

// generate makes a conversation, always the same: a few authors write most of the messages, of
// various lengths.
func generate(n, rooms, authors int) []line {
	r := rand.New(rand.NewPCG(13, 1970))
	words := strings.Fields("roger copy standby the we have a you to go for is okay 13 Houston pressure quad reading over that on")
	lines := make([]line, n)
	at := time.Unix(0, 0).UTC()
	for i := range lines {
		at = at.Add(time.Duration(1+r.IntN(60)) * time.Second)
		text := make([]string, 1+int(r.ExpFloat64()*15))
		for j := range text {
			text[j] = words[r.IntN(len(words))]
		}
		lines[i] = line{
			Room:   fmt.Sprintf("room %d", min(rooms-1, int(r.ExpFloat64()*2))),
			Author: fmt.Sprintf("author-%02d", min(authors-1, int(r.ExpFloat64()*3))),
			At:     at,
			Text:   strings.Join(text, " "),
		}
	}
	return lines
}

// members returns the rooms of a conversation, in order of their first message, and the authors in
// each.
func members(lines []line) (rooms []string, authors map[string][]string) {
	authors = map[string][]string{}
	for _, l := range lines {
		if authors[l.Room] == nil {
			rooms = append(rooms, l.Room)
		}
		if !slices.Contains(authors[l.Room], l.Author) {
			authors[l.Room] = append(authors[l.Room], l.Author)
		}
	}
	return rooms, authors
}
