package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sampleKey = "0123456789abcdefghijklmnopqrstuv"

// carried carries the plan of a running Parley out with what answers in the place of the aws
// command, and returns what was printed.
func carried(t *testing.T, answers func(work string, args []string) (string, error)) (out, work string, err error) {
	t.Helper()
	_, steps := planned(t, parsed(t, good()...), running("us-east-1", "eu-west-1"))
	var b bytes.Buffer
	work = t.TempDir()
	_, err = do(t.Context(), steps, place{work: work, out: &b, aws: func(_ context.Context, args ...string) (string, error) {
		if slices.Contains(args, "get-secret-value") {
			return sampleKey + "\n", nil
		}
		return answers(work, args)
	}})
	return b.String(), work, err
}

// The key gets to both regions, by a file that only its owner may read and that is gone afterwards.
// It is in no argument and nothing shows it.
func TestSecretIsNotShown(t *testing.T) {
	given := 0
	out, work, err := carried(t, func(work string, args []string) (string, error) {
		if strings.Contains(line(args), sampleKey) {
			t.Errorf("it is in the arguments: %q", args)
		}
		if !slices.Contains(args, "parley-prod-region") || !slices.Contains(args, "deploy") {
			return "x", nil
		}
		given++
		name := filepath.Join(work, parametersFile)
		if args[len(args)-1] != "file://"+name || args[len(args)-2] != overrides {
			t.Errorf("the parameters are given as %q", args[len(args)-2:])
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the file is %v, %v", info, err)
		}
		text, err := os.ReadFile(name)
		var parameters []string
		if err != nil || json.Unmarshal(text, &parameters) != nil || !slices.Contains(parameters, "CursorKey="+sampleKey) || !slices.Contains(parameters, "StreamArn=x") {
			t.Errorf("the file holds %s, %v", text, err)
		}
		return "said " + sampleKey, nil
	})
	if err != nil || given != 2 {
		t.Errorf("given %d times, %v", given, err)
	}
	if strings.Contains(out, sampleKey) || strings.Count(out, "'CursorKey=<key of cursors>'") != 2 {
		t.Errorf("it printed\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(work, parametersFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is left: %v", err)
	}
}

// The aws command quotes parameters that it does not understand.
func TestSecretIsNotInErrors(t *testing.T) {
	out, work, err := carried(t, func(_ string, args []string) (string, error) {
		if slices.Contains(args, "parley-prod-region") && slices.Contains(args, "deploy") {
			return "", &saidError{short(args), "value CursorKey=" + sampleKey + " passed to --parameter-overrides must be of format Key=Value"}
		}
		return "x", nil
	})
	if err == nil || strings.Contains(err.Error()+out, sampleKey) || !strings.Contains(err.Error(), "value CursorKey=<key of cursors> passed to") {
		t.Errorf("it said %v and printed\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(work, parametersFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is left: %v", err)
	}
}

// A stack does not notice that its secret is gone: who deploys is told how to make another.
func TestSecretIsGone(t *testing.T) {
	_, steps := planned(t, parsed(t, good()...), running("us-east-1", "eu-west-1"))
	_, err := do(t.Context(), steps, place{work: t.TempDir(), out: &bytes.Buffer{}, aws: func(_ context.Context, args ...string) (string, error) {
		if slices.Contains(args, "get-secret-value") {
			return "", &saidError{short(args), "An error occurred (ResourceNotFoundException)"}
		}
		return "x", nil
	}})
	for _, want := range []string{
		"read the key of cursors", "It was deleted. Make another", "aws secretsmanager get-random-password --region us-east-1",
		"aws secretsmanager create-secret --region us-east-1 --name parley-prod-cursors --secret-string file:///dev/stdin",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it said %v, want %q", err, want)
		}
	}
}

// Before anything is done it is known whether the key is there.
func TestLookForKey(t *testing.T) {
	for said, want := range map[string]keyState{"None\n": keyThere, "2026-11-24T01:00:00+00:00\n": keyDeleted, "": keyNone} {
		st, err := look(t.Context(), parsed(t, good()...), func(_ context.Context, args ...string) (string, error) {
			switch {
			case args[1] == "get-caller-identity":
				return `{"Account":"123456789012"}`, nil
			case args[1] == "describe-stacks":
				return "", &saidError{short(args), "Stack with id x does not exist"}
			case args[1] == "describe-secret" && said != "":
				return said, nil
			case args[1] == "get-account":
				return "None\n", nil
			case args[1] == "head-bucket":
				return "", &saidError{short(args), "An error occurred (404)"}
			}
			return "", &saidError{short(args), "An error occurred (ResourceNotFoundException)"}
		})
		if err != nil || st.key != want {
			t.Errorf("%q is taken for %v, %v", said, st.key, err)
		}
	}
}
