// Deploy puts Parley into an AWS account: the log as one global table, and beside it in each region
// the functions, views, API and bus. It builds the binary and has the aws command do the rest.
//
//	go run ./infra/template/deploy -help
//
// Run again it changes what has changed, and nothing if nothing has. A longer list of regions adds
// those that are new.
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
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// run is the program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help())
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "deploy: %v\nTry -help. Nothing was changed.\n", err)
		return exitUsage
	}
	err = deploy(ctx, s, stdout)
	switch {
	case ctx.Err() != nil:
		fmt.Fprint(stderr, stopped)
		return exitFailed
	case err != nil:
		fmt.Fprintf(stderr, "deploy: %v\n", err)
		return exitFailed
	}
	return 0
}

// deploy looks at what is there, plans, and carries the plan out; or only prints it.
func deploy(ctx context.Context, s settings, out io.Writer) error {
	root, err := findRoot()
	if err != nil {
		return err
	}
	templates, err := readTemplates(root)
	if err != nil {
		return err
	}
	if s.dryRun {
		return dryRun(s, templates, out)
	}
	work, err := os.MkdirTemp("", "parley-deploy-")
	if err != nil {
		return fmt.Errorf("make a folder for what is built: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	cli, err := findAWS()
	if err != nil {
		return err
	}
	return carryOut(ctx, s, templates, place{root, work, cli, out})
}

// place is where a deployment is carried out.
type place struct {
	root, work string // the folders of the module, and of what is built
	aws        aws
	out        io.Writer
}

// carryOut refuses what cannot be before it changes anything.
func carryOut(ctx context.Context, s settings, t templates, p place) error {
	fmt.Fprintln(p.out, "Looking at what is there.")
	st, err := look(ctx, s, p.aws)
	if err != nil {
		return err
	}
	if err := refuse(s, st); err != nil {
		return fmt.Errorf("%w\nNothing was changed", err)
	}
	fmt.Fprintf(p.out, "Account %s. Building %s.\n", st.account, lambdaPackage)
	if st.code, err = build(ctx, p.root, lambdaPackage, p.work); err != nil {
		return err
	}
	if err := lookForCode(ctx, s, p.aws, &st); err != nil {
		return err
	}
	steps, err := plan(s, st, t)
	if err != nil {
		return err
	}
	saved, err := do(ctx, steps, p)
	if err != nil {
		return err
	}
	fmt.Fprint(p.out, farewell(s, st, saved))
	return nil
}

// findRoot returns the folder of the module: the templates and the source of the binary lie there.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		text, missing := os.ReadFile(filepath.Join(dir, "go.mod"))
		if missing == nil && strings.HasPrefix(string(text), "module parley\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.New("run this in Parley's folder: the templates and the code to build are there")
}
