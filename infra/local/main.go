// Local runs Parley on this machine: several regions, each with its own log, views, bus and
// triggers, replication between them that is as bad as a global table's, and a global endpoint
// that sends each request to a healthy region. It is the code that runs on AWS, with other
// drivers underneath.
//
//	go run ./infra/local
//
// Everything is kept below the data folder; started again, it goes on where it was.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"parley/functions/api"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if os.Getenv("GOGC") == "" {
		// Most memory here is Pebble's and not the collector's. The collector's heap is small and, at
		// the usual 100, collected over and over under load. Above 200 it takes memory and gains nothing.
		debug.SetGCPercent(200)
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// run is the program: it serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help())
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "parley: %v\nTry -help.\n", err)
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: s.level}))
	srv, unlock, err := open(ctx, s, log, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "parley: %v\n", err)
		return exitFailed
	}
	defer unlock()
	fmt.Fprintf(stdout, "%s\nCtrl-C stops it; the data stays in %s.\n", srv.welcome(), s.data)

	failed := error(nil)
	select {
	case <-ctx.Done():
		fmt.Fprintln(stdout, "\nStopping. Ctrl-C again ends at once.")
	case failed = <-srv.failed:
	}
	if err := errors.Join(failed, srv.close()); err != nil {
		fmt.Fprintf(stderr, "parley: %v\n", err)
		return exitFailed
	}
	return 0
}

// open takes the data folder and the addresses, opens all regions and serves them. The folder
// stays taken until unlock is called, after the server was closed.
func open(ctx context.Context, s settings, log *slog.Logger, stdout io.Writer) (srv *server, unlock func(), err error) {
	lock, err := lockData(s.data, s.store)
	if errors.Is(err, errDataInUse) {
		return nil, nil, fmt.Errorf("another parley is using %s; stop it or give another -data", s.data)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be used as -data: %w", s.data, err)
	}
	srv = newServer(len(s.regions))
	if err := srv.open(ctx, s, log, stdout); err != nil {
		return nil, nil, errors.Join(err, srv.close(), lock.Close())
	}
	return srv, func() { _ = lock.Close() }, nil
}

func newServer(regions int) *server {
	return &server{closing: make(chan struct{}), failed: make(chan error, 1+regions), stop: func() {}}
}

func (s *server) open(ctx context.Context, set settings, log *slog.Logger, stdout io.Writer) error {
	if err := s.listen(set.host, set.port, set.regions); err != nil {
		return err
	}
	tokens, err := openIssuer(set.data)
	if err != nil {
		return err
	}
	tokens.url = s.url(0) + "/local"
	storage, err := openStorage(ctx, set, stdout)
	if err != nil {
		return err
	}
	cursors, err := api.NewCursors(tokens.cursorKey())
	if err != nil {
		return err
	}
	root, err := openRoot(set.data)
	if err != nil {
		return err
	}
	c, err := openCluster(ctx, options{
		cursors: cursors, root: root,
		storage: storage, regions: set.regions, weather: weather{set.lag, defaultWeather.Twice},
		rate:    api.Rate{PerSecond: set.rate, Burst: burstSeconds * set.rate},
		auth:    api.NewAuth(api.AuthConfig{Issuer: tokens.url, Audience: audience, Keys: tokens.find}),
		trigger: defaultTrigger, archive: defaultArchive, logger: log,
	})
	if err != nil {
		return err
	}
	return s.serve(c, tokens, log)
}
