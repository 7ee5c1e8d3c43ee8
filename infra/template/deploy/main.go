// Deploy puts Parley into an AWS account: the log as one global table, and in each region the
// functions, views, API and bus. It builds the Lambda binary and has the aws command do the rest.
//
//	go run ./infra/template/deploy help
//
// A second run updates what has changed and changes nothing otherwise. A longer list of regions
// adds the new ones.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"parley/functions/wire"
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

// run runs the program with its arguments and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help())
		return 0
	case errors.Is(err, errVersion):
		fmt.Fprintln(stdout, wire.Version())
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "deploy: %v\nTry `deploy help`. Nothing was changed.\n", err)
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

// deploy prepares a deployment and runs it, or only prints it.
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
		return dryRun(ctx, s, templates, out)
	}
	work, err := os.MkdirTemp("", "parley-deploy-")
	if err != nil {
		return fmt.Errorf("create a folder for the build: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	cli, err := findAWS()
	if err != nil {
		return err
	}
	return runDeployment(ctx, s, templates, workplace{root, work, cli, out})
}

// workplace is what a deployment works with.
type workplace struct {
	root, work string // the folders of the module and of the build
	aws        aws
	out        io.Writer
}

// runDeployment reads the state of the account, checks that the settings are possible, builds,
// plans, and runs the plan. Nothing is changed before the plan runs.
func runDeployment(ctx context.Context, s settings, t templates, p workplace) error {
	fmt.Fprintln(p.out, "Reading the state of the account.")
	q := &reader{ctx: ctx, aws: p.aws}
	st, err := readState(q, s)
	if err == nil {
		if err = checkState(s, st); err != nil {
			err = fmt.Errorf("%w\nNothing was changed", err)
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "Account %s. Building %s.\n", st.account, lambdaPackage)
	if st.code, err = build(ctx, p.root, lambdaPackage, p.work); err != nil {
		return err
	}
	if err := findUploads(q, s, &st); err != nil {
		return err
	}
	steps, err := plan(s, st, t)
	if err != nil {
		return err
	}
	if err := runSteps(ctx, steps, p); err != nil {
		return err
	}
	endpoints := map[string]stack{}
	for _, region := range s.regions {
		endpoints[region] = q.stack(s.regionStack(), region)
	}
	fmt.Fprint(p.out, farewell(s, st, endpoints))
	return q.err
}

// findRoot returns the folder of the module, which has the templates and the source of the binary.
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

// runSteps runs the steps in order. The error says which step failed, why, and what to do.
func runSteps(ctx context.Context, steps []step, p workplace) error {
	saved, hidden := map[string]string{strings.Trim(workFolder, "<>"): p.work}, secrets{}
	for i, s := range steps {
		s.args = fill(s.args, saved)
		fmt.Fprint(p.out, s.describe(i+1, len(steps)))
		text, err := s.run(ctx, p, hidden)
		if err == nil && s.save != "" && (text == "" || text == "None") {
			err = errors.New("AWS returned no value")
		}
		if err != nil {
			return fmt.Errorf("%s: %w\nThe steps before it are done. Fix the cause and run the same command again: it continues", s.title, err)
		}
		switch {
		case s.secret:
			hidden[s.save] = text
			continue
		case s.save != "":
			saved[s.save] = text
		case !s.slow:
			continue
		}
		lines := strings.Split("done\n"+text, "\n")
		fmt.Fprintf(p.out, "    -> %s\n", strings.TrimSpace(lines[len(lines)-1]))
	}
	return nil
}

// run runs one step and returns its output. Neither that nor the error has a secret in it, unless
// the output is the secret.
func (s step) run(ctx context.Context, p workplace, hidden secrets) (string, error) {
	if s.file != "" {
		if err := os.WriteFile(filepath.Join(p.work, s.file), []byte(s.text), 0o600); err != nil {
			return "", fmt.Errorf("write a template: %w", err)
		}
	}
	args, remove, err := hidden.fillFile(s.args, p.work)
	defer remove()
	if err != nil {
		return "", err
	}
	if s.slow {
		fmt.Fprintln(p.out, "    waiting for it to finish; this can take minutes")
	}
	text, err := p.aws(ctx, args...)
	for _, h := range s.hints {
		if says(err, h.words) {
			err = fmt.Errorf("%w\n%s", err, h.advice)
			break
		}
	}
	if err != nil && hidden.hide(err.Error()) != err.Error() { // the aws command may quote its arguments
		err = errors.New(hidden.hide(err.Error()))
	}
	return strings.TrimSpace(hidden.hide(text)), err
}

// fill replaces each <name> by the saved value of that name.
func fill(args []string, saved map[string]string) []string {
	out := slices.Clone(args)
	for i := range out {
		for name, value := range saved {
			out[i] = strings.ReplaceAll(out[i], "<"+name+">", value)
		}
	}
	return out
}

// secrets are values that must never be printed, by the names under which steps saved them.
type secrets map[string]string

const overrides = "--parameter-overrides"

// parametersFile is the file in the work folder for parameters with a secret among them.
const parametersFile = "parameters.json"

// fillFile replaces names by secrets. The parameters go into a file that only the user can read,
// because every process of the machine can read a command's arguments. remove removes that file.
func (k secrets) fillFile(args []string, work string) (filled []string, remove func(), err error) {
	full := fill(args, k)
	at := slices.Index(args, overrides)
	if at < 0 || slices.Equal(full, args) {
		return args, func() {}, nil
	}
	name := filepath.Join(work, parametersFile)
	text, err := json.Marshal(full[at+1:])
	if err == nil {
		err = os.WriteFile(name, text, 0o600)
	}
	if err != nil {
		err = fmt.Errorf("write the parameters: %w", err)
	}
	return append(slices.Clone(args[:at+1]), "file://"+name), func() { _ = os.Remove(name) }, err
}

// hide replaces secrets by their names.
func (k secrets) hide(text string) string {
	for name, secret := range k {
		text = strings.ReplaceAll(text, secret, "<"+name+">")
	}
	return text
}

// aws runs the aws command with arguments and returns its output.
type aws func(ctx context.Context, args ...string) (string, error)

// awsError is the error output of the aws command.
type awsError struct {
	command string // operation and region
	text    string
}

func (e *awsError) Error() string { return fmt.Sprintf("aws %s: %s", e.command, e.text) }

// says reports whether the aws command failed with one of the words in its error output.
func says(err error, words ...string) bool {
	var e *awsError
	return errors.As(err, &e) && slices.ContainsFunc(words, func(word string) bool { return strings.Contains(e.text, word) })
}

// stopWithin is how long the aws command may take to end after an interrupt.
const stopWithin = 10 * time.Second

// findAWS finds the aws command.
func findAWS() (aws, error) {
	path, err := exec.LookPath("aws")
	if err != nil {
		return nil, errors.New("the command aws is not on the PATH: install the AWS CLI, version 2 or 1.32 and later, " +
			"and run `aws configure`; or try -dry-run, which needs neither")
	}
	return func(ctx context.Context, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
		cmd.WaitDelay = stopWithin
		cmd.Env = append(os.Environ(), "AWS_PAGER=") // version 2 would wait for a key at the end of a page
		var out, failure bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &failure
		err := cmd.Run()
		if err == nil || ctx.Err() != nil {
			return out.String(), ctx.Err()
		}
		text := strings.TrimSpace(failure.String())
		if text == "" {
			text = strings.TrimSpace(out.String() + " " + err.Error())
		}
		command := args[:min(2, len(args)):min(2, len(args))]
		if at := slices.Index(args, "--region"); at >= 0 && at+1 < len(args) {
			command = append(command, args[at:at+2]...)
		}
		return "", &awsError{strings.Join(command, " "), text}
	}, nil
}
