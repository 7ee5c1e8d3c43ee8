package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// aws runs the aws command with arguments and returns what it prints.
type aws func(ctx context.Context, args ...string) (string, error)

// saidError is what the aws command says when it fails.
type saidError struct {
	command string // what it was asked, without what might be long
	said    string
}

func (e *saidError) Error() string { return fmt.Sprintf("aws %s: %s", e.command, e.said) }

// says reports whether an error of the aws command holds one of the words.
func says(err error, words ...string) bool {
	var e *saidError
	if !errors.As(err, &e) {
		return false
	}
	for _, word := range words {
		if strings.Contains(e.said, word) {
			return true
		}
	}
	return false
}

// patience is how long the aws command may take to end when it was told to.
const patience = 10 * time.Second

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
		cmd.WaitDelay = patience
		cmd.Env = append(os.Environ(), "AWS_PAGER=") // version 2 would wait for a key at the end of a page
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			text := strings.TrimSpace(said.String())
			if text == "" {
				text = strings.TrimSpace(out.String() + " " + err.Error())
			}
			return "", &saidError{short(args), text}
		}
		return out.String(), nil
	}, nil
}

// short is a command as far as an error needs it: its operation and its region.
func short(args []string) string {
	words := args[:min(2, len(args))]
	if at := slices.Index(args, "--region"); at >= 0 && at+1 < len(args) {
		words = append(slices.Clone(words), args[at:at+2]...)
	}
	return strings.Join(words, " ")
}

// inRegions explains the errors of regions that are none, or not this account's.
func inRegions(ask aws) aws {
	return func(ctx context.Context, args ...string) (string, error) {
		text, err := ask(ctx, args...)
		if says(err, "Could not connect to the endpoint", "UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure") {
			err = fmt.Errorf("%w\n-regions may name what this account has enabled: `aws account list-regions` shows the regions and their state", err)
		}
		return text, err
	}
}
