package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"parley/events"
	"parley/infra/operate/source"
)

// dollarsPerMillion is what a million events cost a region once, as README.md breaks it down.
const dollarsPerMillion = 4.72

// shift is a duration that may be given in days.
type shift time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *shift) UnmarshalText(text []byte) error {
	whole := string(text)
	var err error
	var d time.Duration
	if days, is := strings.CutSuffix(whole, "d"); is {
		if d, err = time.ParseDuration(days + "h"); err == nil {
			if 24*d/24 != d {
				err = errors.New("out of range")
			}
			d *= 24
		}
	} else {
		d, err = time.ParseDuration(whole)
	}
	if err != nil {
		return errors.New("it must be a duration such as 90m, 36h or 20000d")
	}
	*s = shift(d)
	return nil
}

// imported is what came of an import.
type imported struct {
	Rooms     tally `json:"rooms"`
	Members   tally `json:"members"` // joinings and leavings
	Messages  tally `json:"messages"`
	Edits     tally `json:"edits"`
	Reactions tally `json:"reactions"`
	Other     tally `json:"other"`

	NotTaken int               `json:"not_taken"` // of the source
	InPart   int               `json:"in_part"`   // taken, but for something
	Refused  int               `json:"refused"`   // by the region
	Mapped   map[string]string `json:"mapped,omitempty"`
	DryRun   bool              `json:"dry_run,omitempty"`
	Dollars  float64           `json:"dollars"` // in each region, about
}

// tally counts events of one sort.
type tally struct {
	Stored  int `json:"stored"`
	Repeats int `json:"repeats"`
}

func (i *imported) of(e events.Event) *tally {
	switch e.Type {
	case "room.created":
		return &i.Rooms
	case "member.joined", "member.left":
		return &i.Members
	case "message.posted":
		return &i.Messages
	case "message.edited":
		return &i.Edits
	case "reaction.added":
		return &i.Reactions
	default:
		return &i.Other
	}
}

// complaints collects what could not be taken: all in a file, some to be shown.
type complaints struct {
	file  *bufio.Writer
	shown []string
	more  int
}

// maxShown is how many complaints are shown without a file.
const maxShown = 10

func (c *complaints) add(what string, place source.Place, reason string) {
	line := fmt.Sprintf("%s: %s: %s", place, what, reason)
	if len(c.shown) < maxShown {
		c.shown = append(c.shown, line)
	} else {
		c.more++
	}
	if c.file != nil {
		_, _ = c.file.WriteString(line + "\n") // an error shows when it is flushed
	}
}

// Run brings in a conversation.
func (c importCmd) Run(s *session) error {
	if err := events.ValidateUser("-owner", c.Owner); c.Owner != "" && err != nil {
		return usageError{err}
	}
	if c.Lanes < 1 || c.Lanes > 32 {
		return usage("-lanes must be 1 to 32")
	}
	src, closer, err := source.Open(c.Path, c.Users == "id")
	if err != nil {
		return err
	}
	defer func() { _ = closer.Close() }()
	all := &complaints{}
	if c.Report != "" {
		f, err := os.Create(c.Report)
		if err != nil {
			return fmt.Errorf("-report: %w", err)
		}
		defer func() { _ = f.Close() }()
		all.file = bufio.NewWriter(f)
	}
	out, err := c.bring(s, src, all)
	if all.file != nil {
		if err := all.file.Flush(); err != nil {
			return fmt.Errorf("-report: %w", err)
		}
	}
	if err != nil {
		return err
	}
	return c.show(s, out, all)
}

// bring reads the source, and sends what becomes of it.
func (c importCmd) bring(s *session, src source.Source, all *complaints) (*imported, error) {
	o := source.Options{Owner: c.Owner, Private: c.Private, Shift: time.Duration(c.Shift), Now: time.Now(), Region: "dry-run"}
	var to *region
	if !c.DryRun {
		var err error
		if to, err = s.one(); err != nil {
			return nil, err
		}
		o.Region = to.name
	}
	p := s.progress()
	defer p.end()
	p.line("reading the source")
	survey, err := source.Look(until{src, s.ctx}, o)
	if err != nil {
		return nil, err
	}
	out := &imported{Mapped: survey.Mapped, DryRun: c.DryRun, Dollars: float64(survey.Events) / 1e6 * dollarsPerMillion}
	up := newUpload(to, c.Lanes, survey.Events, p, out, all)
	for item, err := range source.Events(src, survey) {
		switch {
		case err != nil:
			return nil, errors.Join(err, up.finish())
		case item.Problem != "":
			up.complain("not taken", item.Place, item.Problem)
		case item.Note != "":
			up.complain("in part", item.Place, item.Note)
		case c.DryRun:
			out.of(item.Event).Stored++
		default:
			if !up.add(item) {
				return nil, up.finish()
			}
		}
	}
	return out, up.finish()
}

// until is a source that ends with a context.
type until struct {
	source.Source
	ctx context.Context
}

// Records implements [source.Source].
func (u until) Records() iter.Seq2[source.Record, error] {
	return func(yield func(source.Record, error) bool) {
		for rec, err := range u.Source.Records() {
			if u.ctx.Err() != nil {
				yield(source.Record{}, errors.New("stopped; nothing was sent"))
				return
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// show prints what came of it.
func (c importCmd) show(s *session, out *imported, all *complaints) error {
	sent, messages := 0, out.Messages.Stored+out.Messages.Repeats
	for _, t := range []tally{out.Rooms, out.Members, out.Messages, out.Edits, out.Reactions, out.Other} {
		sent += t.Stored + t.Repeats
	}
	var failed error
	if sent == 0 && out.NotTaken+out.Refused > 0 {
		failed = fmt.Errorf("nothing of %s could be taken", c.Path)
	}
	if s.JSON {
		return errors.Join(s.json(out), failed)
	}
	for _, line := range all.shown {
		s.say("%s", line)
	}
	if all.more > 0 {
		where := "-report FILE writes them all"
		if c.Report != "" {
			where = c.Report + " has them all"
		}
		s.say("… and %s more; %s", thousands(int64(all.more)), where)
	}
	for _, name := range slices.Sorted(maps.Keys(out.Mapped)) {
		s.say("user %q is %s here", name, out.Mapped[name])
	}
	if c.DryRun {
		s.say("A dry run: nothing was sent. This would be:")
	}
	s.say("%-10s %10s %15s", "", "new", "there already")
	for _, row := range []struct {
		name string
		t    tally
	}{{"rooms", out.Rooms}, {"members", out.Members}, {"messages", out.Messages}, {"edits", out.Edits}, {"reactions", out.Reactions}, {"other", out.Other}} {
		if row.t != (tally{}) || row.name == "messages" {
			s.say("%-10s %10s %15s", row.name, thousands(int64(row.t.Stored)), thousands(int64(row.t.Repeats)))
		}
	}
	s.say("%s messages; %d not taken, %d taken in part, %d refused. On AWS about %.2f $ in each region, once.",
		thousands(int64(messages)), out.NotTaken, out.InPart, out.Refused, out.Dollars)
	return failed
}
