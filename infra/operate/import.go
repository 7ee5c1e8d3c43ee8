package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"parley/events"
	"parley/infra/operate/source"
)

// maxShownProblems is how many problems are printed, maxListedProblems how many the JSON lists; -report
// writes all.
const (
	maxShownProblems  = 10
	maxListedProblems = 1000
)

// dollarsPerMillion is what a million events cost once in a region. infra/template/COSTS.md has the details.
const dollarsPerMillion = 4.71

// shift is a duration that may be given in days.
type shift time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *shift) UnmarshalText(text []byte) error {
	hours, isDays := strings.CutSuffix(string(text), "d")
	if isDays {
		hours += "h"
	}
	d, err := time.ParseDuration(hours)
	if isDays {
		if 24*d/24 != d {
			err = errors.New("out of range")
		}
		d *= 24
	}
	if err != nil {
		return errors.New("it must be a duration such as 90m, 36h or 20000d")
	}
	*s = shift(d)
	return nil
}

// importResult is the outcome of an import.
type importResult struct {
	Rooms     tally `json:"rooms"`
	Members   tally `json:"members"` // joins and leaves
	Messages  tally `json:"messages"`
	Edits     tally `json:"edits"`
	Reactions tally `json:"reactions"`
	Other     tally `json:"other"`

	Types   map[string]*tally `json:"types"`             // all of them, by type
	Skipped map[string]int    `json:"skipped,omitempty"` // events of the source that are never imported, by type

	Records  int               `json:"records"`   // that the source has
	Repeated int               `json:"repeated"`  // records that are the same message as an earlier one of the source
	NotTaken int               `json:"not_taken"` // records that cannot be imported
	InPart   int               `json:"in_part"`   // what of a record was left out or changed
	Refused  int               `json:"refused"`   // events that the region refused
	Reported []string          `json:"reported"`  // what the three before are, the first maxListedProblems
	Mapped   map[string]string `json:"mapped,omitempty"`
	DryRun   bool              `json:"dry_run,omitempty"`
	Dollars  float64           `json:"dollars"` // in each region, about
}

// tally counts events of one sort. In a dry run all count as stored.
type tally struct {
	Stored  int `json:"stored"`
	Repeats int `json:"repeats"` // already in the log
}

// count counts an event that was stored, or that was there already.
func (r *importResult) count(e events.Event, repeat bool) {
	of := r.Types[e.Type]
	if of == nil {
		of = &tally{}
		r.Types[e.Type] = of
	}
	for _, t := range []*tally{of, r.tallyOf(e)} {
		if repeat {
			t.Repeats++
		} else {
			t.Stored++
		}
	}
}

func (r *importResult) tallyOf(e events.Event) *tally {
	switch e.Type {
	case "room.created":
		return &r.Rooms
	case "member.joined", "member.left":
		return &r.Members
	case "message.posted":
		return &r.Messages
	case "message.edited":
		return &r.Edits
	case "reaction.added":
		return &r.Reactions
	default:
		return &r.Other
	}
}

// Run imports conversations.
func (c importCmd) Run(s *session) (err error) {
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
	u := &upload{session: s, progress: s.progress(), start: time.Now()}
	if c.Report != "" {
		f, err := os.Create(c.Report)
		if err != nil {
			return fmt.Errorf("-report: %w", err)
		}
		u.report = bufio.NewWriter(f)
		defer func() {
			if closeErr := errors.Join(u.report.Flush(), f.Close()); closeErr != nil {
				err = cmp.Or(err, fmt.Errorf("-report: %w", closeErr))
			}
		}()
	}
	err = c.upload(u, src)
	u.progress.clear()
	if err != nil {
		return err
	}
	return c.printResult(u)
}

func (c importCmd) printResult(u *upload) error {
	r := u.result
	type row struct {
		name string
		tally
	}
	rows := []row{{"rooms", r.Rooms}, {"members", r.Members}, {"messages", r.Messages}, {"edits", r.Edits}, {"reactions", r.Reactions}}
	if c.Events {
		rows = nil // every type under its own name
	}
	for _, name := range slices.Sorted(maps.Keys(r.Types)) {
		if c.Events || r.tallyOf(events.Event{Type: name}) == &r.Other {
			rows = append(rows, row{name, *r.Types[name]})
		}
	}
	sent := 0
	for _, row := range rows {
		sent += row.Stored + row.Repeats
	}
	var failed error
	switch {
	case sent == 0 && r.NotTaken+r.Refused > 0:
		failed = fmt.Errorf("nothing in %s could be imported", c.Path)
	case r.NotTaken+r.Refused > 0:
		failed = errDiffers
	}
	if u.JSON {
		return errors.Join(u.printJSON(r), failed)
	}
	shown := r.Reported[:min(len(r.Reported), maxShownProblems)]
	for _, line := range shown {
		u.printf("%s", line)
	}
	if more := u.count - len(shown); more > 0 {
		where := "write all to a file with -report FILE"
		if c.Report != "" {
			where = c.Report + " has all of them"
		}
		u.printf("… and %s more; %s", thousands(int64(more)), where)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Mapped)) {
		u.printf("author %q gets the user id %s", name, r.Mapped[name])
	}
	width := 10
	for _, row := range rows {
		width = max(width, len(row.name))
	}
	if c.DryRun {
		u.printf("Dry run: nothing was sent, and the region was not asked what it already has.\n%-*s %10s", width, "", "in source")
	} else {
		u.printf("%-*s %10s %15s", width, "", "new", "already there")
	}
	for _, row := range rows {
		switch {
		case row.tally == (tally{}) && row.name != "messages":
		case c.DryRun:
			u.printf("%-*s %10s", width, row.name, thousands(int64(row.Stored)))
		default:
			u.printf("%-*s %10s %15s", width, row.name, thousands(int64(row.Stored)), thousands(int64(row.Repeats)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Skipped)) {
		u.printf("%s events of type %s are not imported: they only happen where they are done", thousands(int64(r.Skipped[name])), name)
	}
	if r.Repeated > 0 {
		u.printf("%s records are the same messages as earlier ones", thousands(int64(r.Repeated)))
	}
	u.printf("%s records; %s messages; %d records not imported, %d imported in part, %d events refused. On AWS about $%.2f in each region, once.",
		thousands(int64(r.Records)), thousands(int64(r.Messages.Stored+r.Messages.Repeats)), r.NotTaken, r.InPart, r.Refused, r.Dollars)
	return failed
}
