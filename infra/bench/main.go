// Command bench puts load on Parley and says what it bears.
//
//	go run ./infra/bench                       compare with the limits of this machine
//	go run ./infra/bench -replay FILE          play a conversation against a running Parley
//
// The comparison starts everything it needs itself, in processes and directories of its own,
// and takes all its figures in one run, so that they can be held against each other.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
)

const usage = `bench puts load on Parley and says what it bears.

  go run ./infra/bench [-run posts,pages,idle,append,units,coldstart,fanout,rebuild] [-seconds 5] [-rounds 3] [-conns 64]
      Compares Parley, in processes it starts itself, with the limits of this machine:
        posts   durable posts a second over HTTP, against a bare net/http handler that
                decodes the same JSON and commits the same bytes to Pebble with fsync;
                and how far the views are behind under that load
        pages   a page of 50 of a room with 1,000,000 messages, against one with 1,000
        idle    CPU time and resident memory of three regions that hold a conversation
                and have nothing to do
        append  appends a second to the log on DynamoDB against a bare PutItem of the same
                bytes; on DynamoDB Local, which it fetches and starts (needs npm and Java;
                its licence wants you to have an AWS account)
        units   what each kind of event, and each message of -conversation FILE, costs in
                request units of DynamoDB; on DynamoDB Local, as append
        coldstart
                the Lambda binary: its size, and the time from exec to its first answer for
                each function; on DynamoDB Local, as append
        fanout  frames a second to -sockets sockets of one room, each message posted and
                stored, against a bare WebSocket broadcast of the same frames; and the time
                from accepted to delivered at 100 messages a second
        rebuild events a second of a rebuild of all views, and of an audit, against a bare scan
                of the log that decodes every event; embedded, and on DynamoDB Local, as append

  go run ./infra/bench -replay FILE [-url http://127.0.0.1:8080] [-speed 0] [-faults]
      Plays a conversation (JSON lines: room, author, at, text) against a running Parley
      as live traffic: each author a user, spread over the regions, sending again under
      the same id whatever fails. Then checks that every region answers with exactly the
      same rooms and messages in the same order. FILE may be "generated": a made-up
      conversation of 11,291 messages. With -faults one region fails and another is
      isolated for part of it. Start Parley with -rate 0, or it is held to its limit of
      50 messages a second for each author.

Flags:
`

// options are the command line.
type options struct {
	run     string
	seconds int
	rounds  int
	conns   int
	replay  string
	// conversation is what the comparison units posts.
	conversation string
	url          string
	speed        float64
	faults       bool
	rows         int
	sockets      int
	bare         string
	dir          string
}

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

var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case o.bare != "":
		return serveBare(ctx, o.bare, o.dir)
	case o.replay != "":
		return replay(ctx, o, stdout)
	default:
		return compare(ctx, o, stdout)
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.run, "run", "posts,pages,idle", "which comparisons to make")
	flags.IntVar(&o.seconds, "seconds", 5, "how long each round of load lasts")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each round is done; the median counts")
	flags.IntVar(&o.conns, "conns", 64, "connections that send at the same time")
	flags.IntVar(&o.rows, "rows", 1_000_000, "messages of the large room of the comparison pages")
	flags.IntVar(&o.sockets, "sockets", 1000, "sockets of the comparison fanout")
	flags.StringVar(&o.conversation, "conversation", "generated", "the `file` whose messages the comparison units posts, or generated")
	flags.StringVar(&o.replay, "replay", "", "the `file` to play, or generated")
	flags.StringVar(&o.url, "url", "http://127.0.0.1:8080", "the global endpoint of the running Parley")
	flags.Float64Var(&o.speed, "speed", 0, "how many times faster than it happened; 0 is as fast as it goes")
	flags.BoolVar(&o.faults, "faults", false, "fail one region and isolate another for part of the replay")
	flags.StringVar(&o.bare, "bare", "", "serve the bare handler of the comparison at this `address` (bench starts it itself)")
	flags.StringVar(&o.dir, "dir", "", "the `directory` of the bare handler's store")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	if flags.NArg() > 0 || o.seconds < 1 || o.rounds < 1 || o.conns < 1 || o.rows < 1000 || o.sockets < 10 || o.speed < 0 {
		fmt.Fprintln(stderr, "bench: counts must be above 0, -rows at least 1000, -sockets at least 10, and nothing may follow the flags; see -help")
		return o, errUsage
	}
	return o, nil
}

// compare makes the comparisons asked for.
func compare(ctx context.Context, o options, out io.Writer) error {
	all := map[string]func(context.Context, options, *binaries, io.Writer) error{
		"posts": comparePosts, "pages": comparePages, "idle": measureIdle, "append": compareAppend, "units": compareUnits, "coldstart": compareColdStart,
		"fanout": compareFanOut, "rebuild": compareRebuild,
	}
	names := strings.Split(o.run, ",")
	for _, name := range names {
		if all[name] == nil {
			return fmt.Errorf("-run: %q is not one of posts, pages, idle, append, units, coldstart, fanout, rebuild", name)
		}
	}
	bin, err := build(ctx)
	if err != nil {
		return err
	}
	defer bin.remove()
	for _, name := range names {
		start := time.Now()
		fmt.Fprintf(out, "== %s\n", name)
		if err := all[name](ctx, o, bin, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(out, "   (%.0f s)\n\n", time.Since(start).Seconds())
	}
	return nil
}
