package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"parley/events"
	"parley/events/keys"
	"parley/functions/live"
	"parley/functions/stream"
	"parley/projections"
)

// The simulator proves itself by bugs that are planted on purpose: each must be found. A bug is either in a
// port, where a store or a trigger breaks its contract, or it is a change of the product's source, made while
// it is compiled (go build -overlay). No source file of the product knows of them.

// handle is a process that handles a batch of records; see [stream.Handler.Handle].
type handle func(ctx context.Context, records []events.Record) (int, error)

// plant is a bug. In a port it stands behind the faults of the simulator: it plays the store itself.
// Functions that are nil change nothing.
type plant struct {
	name  string
	about string

	log         func(region string, next events.Log) events.Log
	views       func(region string, next projections.Views) projections.Views
	keys        func(region string, next keys.Store) keys.Store
	bus         func(next stream.Bus) stream.Bus
	connections func(next live.Connections) live.Connections
	sockets     func(next live.Sockets) live.Sockets
	handle      func(next handle) handle

	// file is the source file that is changed, from the top of the module on; "" for a bug in a port. In it
	// find occurs once, and replace takes its place.
	file, find, replace string
}

// plantOf returns the bug with a name, nil if there is none.
func plantOf(name string) *plant {
	for i := range plants {
		if plants[i].name == name {
			return &plants[i]
		}
	}
	return nil
}

// planted returns the bug with a name for the ports of a world. It is the zero plant for "".
func planted(name string) plant {
	if p := plantOf(name); p != nil {
		return *p
	}
	return plant{}
}

func listPlants(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range plants {
		where := p.file
		if where == "" {
			where = "a port"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", p.name, where, p.about)
	}
	_ = table.Flush() // an error of out is seen by the next write
}

// change returns the source file of a bug with the bug in it.
func (p *plant) change(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, p.file))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(text), p.find); n != 1 {
		return nil, fmt.Errorf("plant %s: %s has the text that the bug replaces %d times, not once: adapt the bug in plants.go:\n%s", p.name, p.file, n, p.find)
	}
	return []byte(strings.Replace(string(text), p.find, p.replace, 1)), nil
}

// buildWorlds builds the program that runs worlds, with a planted bug if p is not nil: the test binary of this
// package, because only a test can replace the random numbers of the product. Call done to delete it.
func buildWorlds(ctx context.Context, p *plant) (binary string, done func(), err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "parley-simulate-")
	if err != nil {
		return "", nil, err
	}
	done = func() { _ = os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			done()
		}
	}()
	binary = filepath.Join(dir, "worlds")
	args := []string{"test", "-c", "-ldflags=-s -w", "-o", binary} // without what a debugger needs it links faster
	if p != nil && p.file != "" {
		overlay, err := p.overlay(root, dir)
		if err != nil {
			return "", nil, err
		}
		args = append(args, "-overlay", overlay)
	}
	build := exec.CommandContext(ctx, "go", append(args, "./infra/simulate")...)
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("build the worlds: %w\n%s", err, output)
	}
	return binary, done, nil
}

// overlay writes what the compiler reads in place of the source file of a bug, to a folder, and returns the file
// for the flag -overlay.
func (p *plant) overlay(root, dir string) (string, error) {
	text, err := p.change(root)
	if err != nil {
		return "", err
	}
	changed, overlay := filepath.Join(dir, filepath.Base(p.file)), filepath.Join(dir, "overlay.json")
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, p.file): changed}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(changed, text, 0o644), os.WriteFile(overlay, replaced, 0o644))
}

// moduleRoot is the folder of the module's source.
func moduleRoot(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the source of Parley, run this in its folder: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// one reports whether something happens to one of so many, by its name: the same in every run.
func one(of uint64, names ...string) bool { return hashOf(names...)%of == 0 }

// forgetfulLog acknowledges some messages without storing them.
type forgetfulLog struct{ events.Log }

func (l forgetfulLog) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	if e.Type == "message.posted" && one(16, e.ID.String()) {
		return e, false, nil
	}
	return l.Log.Append(ctx, e)
}

// bareLog keeps one event of each id, as if keys had no digest: another one of the id is taken for a repeat.
type bareLog struct{ events.Log }

func (l bareLog) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	if found, err := events.Find(ctx, l.Log, e.Stream, e.ID, false); err == nil && len(found) > 0 {
		return found[0], true, nil
	}
	return l.Log.Append(ctx, e)
}

// blindViews let the last writer win, whatever the version.
type blindViews struct{ projections.Views }

func (v blindViews) Save(ctx context.Context, views ...projections.View) error {
	for _, view := range views {
		stored, err := v.Get(ctx, view.Key)
		if err != nil {
			return err
		}
		view.Version = stored[0].Version
		if err := v.Views.Save(ctx, view); err != nil {
			return err
		}
	}
	return nil
}

// forgetfulViews acknowledge some saves without saving anything.
type forgetfulViews struct{ projections.Views }

func (v forgetfulViews) Save(ctx context.Context, views ...projections.View) error {
	var kept []projections.View
	for _, view := range views {
		if !one(50, view.Key.Partition, view.Key.Sort, string(view.Body)) {
			kept = append(kept, view)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return v.Views.Save(ctx, kept...)
}

// keptKeys acknowledge an erasure, and keep the keys.
type keptKeys struct{ keys.Store }

func (keptKeys) Erase(context.Context, string) error { return nil }

// forgetfulBus acknowledges some entries and drops them.
type forgetfulBus struct{ stream.Bus }

func (b forgetfulBus) Publish(ctx context.Context, entries []stream.Entry) ([]error, error) {
	var kept []stream.Entry
	for _, e := range entries {
		if !one(20, string(e.Detail)) {
			kept = append(kept, e)
		}
	}
	if len(kept) > 0 {
		if refused, err := b.Bus.Publish(ctx, kept); err != nil || len(kept) == len(entries) {
			return refused, err
		}
	}
	return make([]error, len(entries)), nil
}

// deafConnections acknowledge that rooms are removed, and go on listening.
type deafConnections struct{ live.Connections }

func (deafConnections) Unsubscribe(context.Context, string, ...string) error { return nil }

// hasty takes every batch for handled: the checkpoint moves on although the handler failed.
func hasty(next handle) handle {
	return func(ctx context.Context, records []events.Record) (int, error) {
		_, _ = next(ctx, records)
		return len(records), nil
	}
}

// skipping takes the record at which a batch failed for handled.
func skipping(next handle) handle {
	return func(ctx context.Context, records []events.Record) (int, error) {
		n, err := next(ctx, records)
		if err != nil && n < len(records) {
			n++
		}
		return n, err
	}
}
