package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

// exportParts is how many parts of the log are read side by side.
const exportParts = 4

// exporter writes lines as they come.
type exporter struct {
	from *region
	all  bool

	mu       sync.Mutex
	out      *bufio.Writer
	progress *progress
	lines    int
	start    time.Time
}

// Run writes what a region has.
func (c exportCmd) Run(s *session) (err error) {
	stream := events.Stream("")
	if c.Room != "all" {
		if stream, err = streamOf(c.Room); err != nil {
			return err
		}
		if kind, _ := stream.Split(); c.Messages && kind != events.KindRoom {
			return usage("-messages: messages are in rooms only")
		}
	}
	r, err := s.one()
	if err != nil {
		return err
	}
	to := s.out
	if c.Out != "" {
		f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("-out: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = f
	}
	x := &exporter{from: r, all: c.Room == "all", out: bufio.NewWriterSize(to, 64<<10), progress: s.progress(), start: time.Now()}
	defer x.progress.end()
	switch {
	case c.Messages:
		err = x.messages(stream)
	case x.all:
		err = x.log(x.event)
	default:
		for e, failed := range r.read(stream, "", "", 0) {
			if failed == nil {
				failed = x.event(e)
			}
			if failed != nil {
				err = failed
				break
			}
		}
	}
	err = errors.Join(err, x.out.Flush())
	x.progress.end()
	if err == nil && c.Out != "" {
		s.say("%s lines in %s.", thousands(int64(x.lines)), c.Out)
	}
	return err
}

// log goes through the log, several parts side by side: the events of a stream in their order. What
// regions and operators note about themselves is left out: it belongs to this deployment.
func (x *exporter) log(take func(events.Event) error) error {
	group, ctx := errgroup.WithContext(x.from.ctx)
	for part := range exportParts {
		group.Go(func() error {
			for after := ""; ; {
				var page eventPage
				err := x.from.get("log", &page, "part", fmt.Sprintf("%d/%d", part, exportParts), "after", after, "limit", strconv.Itoa(maxPage))
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					return fmt.Errorf("%s: read the log: %w", x.from.title(), err)
				}
				for _, e := range page.Events {
					if kind, _ := e.Stream.Split(); kind != events.KindRoom && kind != events.KindUser {
						continue
					}
					if err := take(e.Event); err != nil {
						return err
					}
				}
				if page.After == nil {
					return nil
				}
				after = *page.After
			}
		})
	}
	return group.Wait()
}

func (x *exporter) event(e events.Event) error {
	text, err := e.MarshalJSON()
	if err != nil {
		return err
	}
	return x.line(text)
}

func (x *exporter) line(text []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, err := x.out.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	x.lines++
	x.progress.pace("exporting", x.lines, 0, x.start)
	return nil
}
