// Simulate runs the functions of several regions in one process and in virtual time, with clients, users,
// operators and every fault that a seed decides, and checks what Parley promises.
//
//	go run ./infra/simulate                    run the worlds of seeds 1 to 1000
//	go run ./infra/simulate -replay FILE -v    run one schedule and print what happens
//
// README.md says what is checked and what is not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/functions/wire"
)

const usage = `simulate runs Parley's regions in a simulated world and checks what Parley promises.

  go run ./infra/simulate [-seeds 1-1000] [-steps 100] [-j 2] [-out DIR]
      Runs the world of each seed: users, operators and clients of several regions, with the faults that
      the seed decides. Each seed gives one schedule of steps. If a check fails, the schedule is shrunk
      to a few steps, and written to DIR with a picture of what happened. The exit code is then 1.

  go run ./infra/simulate -seed 17 [-steps 100] [-v]
  go run ./infra/simulate -replay FILE [-v] [-picture FILE]
      Runs one schedule, that of a seed or of a file. With -v it prints what happened, in order of
      time, by region and client; with -picture it writes that as a page for a browser.

  go run ./infra/simulate -plant NAME
      Runs seeds on a Parley with a planted bug, which must be found. -plant list lists the bugs.

  go run ./infra/simulate version | help

Flags:
`

// options are the command line.
type options struct {
	first, last uint64 // seeds
	one         bool   // a single schedule is run, not searched
	steps       int
	workers     int
	replay      string
	verbose     bool
	picture     string
	plant       string
	folder      string
	enough      int
	tries       int
}

var (
	errUsage = errors.New("wrong usage")
	// errFound is returned when a check failed. What failed has been printed.
	errFound = errors.New("a check failed")
)

// The exit codes. 0 is success.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(exitUsage)
	case errors.Is(err, errFound):
		os.Exit(exitFailed)
	default:
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(exitFailed)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && strings.TrimLeft(args[0], "-") == "version" {
		fmt.Fprintln(stdout, "simulate", wire.Version())
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
	case o.plant == "list":
		listPlants(stdout)
		return nil
	}
	building := time.AfterFunc(3*time.Second, func() { fmt.Fprintln(stderr, "building the worlds; the first time this takes a minute") })
	binary, done, err := o.binary(ctx)
	if building.Stop(); err != nil {
		return err
	}
	defer done()
	if o.one {
		return runOne(ctx, binary, o, stdout)
	}
	return runSeeds(ctx, binary, o, stdout)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	seeds := flags.String("seeds", "1-1000", "the `seeds` to run, as first-last")
	seed := flags.String("seed", "", "run the world of this `seed` only")
	flags.IntVar(&o.steps, "steps", 100, "steps of each schedule")
	flags.IntVar(&o.workers, "j", runtime.NumCPU(), "worlds that run at the same time, each in a process of its own")
	flags.StringVar(&o.replay, "replay", "", "run the schedule in this `file`")
	flags.BoolVar(&o.verbose, "v", false, "print what happened in the one schedule that is run")
	flags.StringVar(&o.picture, "picture", "", "write what happened in the one schedule that is run to this HTML `file`")
	flags.StringVar(&o.plant, "plant", "", "plant the bug with this `name`; list names them all")
	flags.StringVar(&o.folder, "out", filepath.Join(".parley", "simulate"), "the `folder` for schedules that fail")
	flags.IntVar(&o.enough, "failures", 10, "stop after so many seeds that fail")
	flags.IntVar(&o.tries, "tries", 3000, "how many runs the shrinking of a schedule may take")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	wrong := func(format string, a ...any) (options, error) {
		fmt.Fprintf(stderr, "simulate: "+format+"; see -help\n", a...)
		return o, errUsage
	}
	var err error
	switch {
	case flags.NArg() > 0:
		return wrong("nothing may follow the flags, but %q does", flags.Arg(0))
	case *seed != "" && o.replay != "":
		return wrong("-seed and -replay exclude each other")
	case o.steps < 1 || o.steps > maxSteps:
		return wrong("-steps must be from 1 to %d", maxSteps)
	case o.workers < 1 || o.enough < 1 || o.tries < 0:
		return wrong("-j and -failures must be at least 1, -tries at least 0")
	case o.plant != "" && o.plant != "list" && plantOf(o.plant) == nil:
		return wrong("-plant: there is no bug with the name %q; -plant list names them all", o.plant)
	case *seed != "":
		o.one = true
		o.first, err = strconv.ParseUint(*seed, 10, 64)
		if o.last = o.first; err != nil {
			return wrong("-seed must be an integer from 0")
		}
	case o.replay != "":
		o.one = true
	default:
		if o.first, o.last, err = parseSeeds(*seeds); err != nil {
			return wrong("-seeds %v", err)
		}
	}
	if !o.one && (o.verbose || o.picture != "") {
		return wrong("-v and -picture need -seed or -replay")
	}
	return o, nil
}

// parseSeeds parses "1-1000", or a single seed.
func parseSeeds(text string) (first, last uint64, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err = strconv.ParseUint(from, 10, 64)
	if err == nil {
		last, err = strconv.ParseUint(to, 10, 64)
	}
	if err != nil || first > last {
		return 0, 0, errors.New("must be a seed or first-last, such as 1-1000")
	}
	return first, last, nil
}

// binary returns the program that runs the worlds, which is built first. In a test that needs no change of the
// source it is the test itself. Call done when it is no longer needed.
func (o options) binary(ctx context.Context) (binary string, done func(), err error) {
	p := plantOf(o.plant)
	if testing.Testing() && (p == nil || p.file == "") {
		binary, err = os.Executable()
		return binary, func() {}, err
	}
	return buildWorlds(ctx, p)
}

// world is what the worlds are run with.
func (o options) world() Options {
	w := Options{}
	if p := plantOf(o.plant); p != nil && p.file == "" {
		w.Plant = p.name
	}
	return w
}

// again is the command line that runs a schedule again.
func (o options) again(file string) string {
	command := "go run ./infra/simulate -replay " + file + " -v"
	if o.plant != "" {
		command += " -plant " + o.plant
	}
	return command
}

// runOne runs a single schedule.
func runOne(ctx context.Context, binary string, o options, out io.Writer) error {
	s := Generate(o.first, o.steps)
	if o.replay != "" {
		text, err := os.ReadFile(o.replay)
		if err != nil {
			return err
		}
		if s, err = DecodeSchedule(text); err != nil {
			return fmt.Errorf("%s: %w", o.replay, err)
		}
	}
	w := &worker{binary: binary}
	defer w.close()
	how := o.world()
	how.Trace = true
	r, err := w.run(ctx, s, how)
	if err != nil {
		return err
	}
	if o.picture != "" {
		if err := os.WriteFile(o.picture, picture(s, r), 0o644); err != nil {
			return err
		}
	}
	if o.verbose {
		writeAccount(out, s, r)
	}
	writeOutcome(out, s, r)
	if r.Failure != nil {
		return errFound
	}
	return nil
}
