// Command bench puts load on Parley and prints what it can take.
//
//	go run ./infra/bench                       compare with the limits of this machine
//	go run ./infra/bench -replay FILE          play a conversation against a running Parley
//
// A comparison starts everything it needs in processes and folders of its own, and measures Parley
// and the limit in turns, so that the ratios hold on any machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"parley/functions/wire"
)

const usage = `bench puts load on Parley and prints what it can take.

  go run ./infra/bench [-run posts,pages,sync,fanout,rebuild,units,shards] [-seconds 5] [-rounds 3] [-conns 64]
      Compares Parley, in processes it starts itself, with the limits of this machine:
        posts   durable posts a second over HTTP, against a bare net/http handler that decodes
                the same JSON and commits the same bytes to Pebble with fsync; and how far the
                views lag under that load
        pages   a page of 50 of a room with 1,000,000 messages, against one with 1,000
        sync    a sync of 100 events in 20 rooms after -others messages in other rooms: its time
                over HTTP, and what it reads on DynamoDB Local, as does one with nothing new
        fanout  frames a second to -sockets sockets of one room, each message posted and
                stored, against a bare WebSocket broadcast of the same frames; and the time
                from accepted to delivered at 100 messages a second
        rebuild events a second of a rebuild of all views, and of an audit, against a bare scan
                of the log that decodes every event; embedded, and on DynamoDB Local, which is
                fetched and started (needs npm and Java; its licence requires an AWS account)
        units   what each type of event, and each message of -conversation FILE, costs in
                request units of DynamoDB; on DynamoDB Local
        shards  what the stream function reads and how fast it is with 4 shards and 4 processes, in
                5,000 rooms that none of them has cached, against 1 and 1 and against bare saves
                of as many views; on DynamoDB Local

  go run ./infra/bench -replay FILE [-url http://127.0.0.1:8080] [-speed 0] [-faults]
      Plays a conversation (JSON lines: room, author, at, text) against a running Parley as live
      traffic: each author is a user, spread over the regions, who retries under the same id
      after any failure. Then checks that every region answers with exactly the same rooms and
      messages in the same order. FILE may be "generated": a generated conversation of 11,291
      messages. With -faults one region fails and another is isolated for a part of it, and one
      in 50 ids is sent with two texts to two regions at once: all must show the same. Start
      Parley with -rate 0, or the rate limit of 50 messages a second for each author applies.

  go run ./infra/bench version | help

Flags:
`

// options are the command line.
type options struct {
	run          string
	seconds      int
	rounds       int
	conns        int
	rows         int
	others       int
	sockets      int
	conversation string
	replay       string
	url          string
	speed        float64
	faults       bool
	bare, dir    string
}

var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, errUsage) {
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && strings.TrimLeft(args[0], "-") == "version" {
		fmt.Fprintln(stdout, "bench", wire.Version())
		return nil
	}
	if len(args) == 1 && args[0] == "help" {
		args, stderr = []string{"-help"}, stdout
	}
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case o.bare != "":
		return serveBare(ctx, o.bare, o.dir, stdout)
	case o.replay != "":
		c, err := dial(ctx, o.url)
		if err != nil {
			return err
		}
		return replay(ctx, c, o, stdout)
	}
	return compare(ctx, o, stdout)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.run, "run", "posts,pages", "which comparisons to make")
	flags.IntVar(&o.seconds, "seconds", 5, "seconds of each round of load")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds; the median is printed")
	flags.IntVar(&o.conns, "conns", 64, "connections that send at the same time")
	flags.IntVar(&o.rows, "rows", 1_000_000, "messages of the large room of pages")
	flags.IntVar(&o.others, "others", 100_000, "messages in other rooms before a sync")
	flags.IntVar(&o.sockets, "sockets", 1000, "sockets of fanout")
	flags.StringVar(&o.conversation, "conversation", "generated", "the `file` whose messages units posts, or generated")
	flags.StringVar(&o.replay, "replay", "", "the `file` to play, or generated")
	flags.StringVar(&o.url, "url", "http://127.0.0.1:8080", "the global endpoint of the running Parley")
	flags.Float64Var(&o.speed, "speed", 0, "play so many times faster than recorded; 0 is as fast as possible")
	flags.BoolVar(&o.faults, "faults", false, "fail one region and isolate another for a part of the replay")
	flags.StringVar(&o.bare, "bare", "", "serve the bare handler of the comparisons at this `address` (bench starts it itself)")
	flags.StringVar(&o.dir, "dir", "", "the `folder` of the bare handler's store")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	if flags.NArg() > 0 || o.seconds < 1 || o.rounds < 1 || o.conns < 1 || o.rows < 1000 || o.others < 0 || o.sockets < 10 || o.speed < 0 {
		fmt.Fprintln(stderr, "bench: counts must be above 0, -rows at least 1000, -sockets at least 10, and nothing may follow the flags; see -help")
		return o, errUsage
	}
	return o, nil
}

// bench is one run of comparisons.
type bench struct {
	options
	out   io.Writer
	dir   string // of everything the comparisons make
	local string // infra/local, built for this run
	self  string // this program, for its bare handler
}

// compare makes the comparisons that -run names.
func compare(ctx context.Context, o options, out io.Writer) (err error) {
	all := map[string]func(*bench, context.Context) error{
		"posts": (*bench).posts, "pages": (*bench).pages, "sync": (*bench).sync, "fanout": (*bench).fanOut,
		"rebuild": (*bench).rebuild, "units": (*bench).units, "shards": (*bench).shards,
	}
	names := strings.Split(o.run, ",")
	for _, name := range names {
		if all[name] == nil {
			return fmt.Errorf("-run: %q is not one of %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
	}
	b := &bench{options: o, out: out}
	if b.dir, err = os.MkdirTemp("", "parley-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	// The comparisons on DynamoDB Local alone do not start Parley.
	needsLocal := func(name string) bool { return name != "rebuild" && name != "units" && name != "shards" }
	if b.local = filepath.Join(b.dir, "local"); slices.ContainsFunc(names, needsLocal) {
		if err := b.buildLocal(ctx); err != nil {
			return err
		}
	}
	for _, name := range names {
		start := time.Now()
		b.printf("== %s\n", name)
		if err := all[name](b, ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.printf("   (%.0f s)\n\n", time.Since(start).Seconds())
	}
	return nil
}

func (b *bench) buildLocal(ctx context.Context) error {
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", b.local, "parley/infra/local").CombinedOutput(); err != nil {
		return fmt.Errorf("build infra/local: %w\n%s", err, text)
	}
	return nil
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
