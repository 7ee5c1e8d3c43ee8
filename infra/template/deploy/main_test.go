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
	"syscall"
	"testing"

	"parley/functions/wire"
)

// call runs the program.
func call(ctx context.Context, args ...string) (code int, out, said string) {
	var stdout, stderr bytes.Buffer
	code = run(ctx, args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// fakeAWS puts a shell script in the place of the aws command. It notes what it is asked in the
// file that is returned.
func fakeAWS(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	text := "#!/bin/sh\necho \"$*\" >>" + asked + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte(text), 0o700); err != nil { //nolint:gosec // it must run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return asked
}

func TestHelp(t *testing.T) {
	code, out, _ := call(t.Context(), "-help")
	if _, word, _ := call(t.Context(), "help"); word != out {
		t.Error("help is not -help")
	}
	for _, version := range []string{"version", "-version"} {
		if code, out, _ := call(t.Context(), version); code != 0 || strings.TrimSpace(out) != wire.Version() {
			t.Errorf("%s: %d %s", version, code, out)
		}
	}
	for _, flag := range []string{
		"-stage", "-regions", "-remove", "-consistency", "-warm-writes", "-issuer", "-audience", "-jwks", "-leeway", "-domain", "-live-domain", "-check-every", "-origins",
		"-rate", "-api-rate", "-api-burst", "-publish", "-batch-window", "-beats", "-log ", "-log-days", "-archive-days", "-alarm-topic", "-example", "-dry-run", "-help", "-version",
	} {
		if !strings.Contains(out, "  "+flag) {
			t.Errorf("%s is not explained", flag)
		}
	}
	if code != 0 {
		t.Errorf("the exit code is %d", code)
	}
}

func TestRunRefuses(t *testing.T) {
	if code, out, said := call(t.Context(), "-stage", "prod"); code != exitUsage || out != "" || !strings.Contains(said, "-regions is missing") || !strings.Contains(said, "Nothing was changed") {
		t.Errorf("bad flags: %d %s %s", code, out, said)
	}
	t.Chdir(t.TempDir())
	if code, _, said := call(t.Context(), good("-dry-run")...); code != exitFailed || !strings.Contains(said, "run this in Parley's folder") {
		t.Errorf("elsewhere: %d %s", code, said)
	}
}

func TestNoAWS(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if code, _, said := call(t.Context(), good()...); code != exitFailed || !strings.Contains(said, "aws is not on the PATH") || !strings.Contains(said, "-dry-run") {
		t.Errorf("%d %s", code, said)
	}
}

func TestNoCredentials(t *testing.T) {
	asked := fakeAWS(t, `echo "Unable to locate credentials. You can configure credentials by running \"aws configure\"." >&2; exit 253`)
	code, _, said := call(t.Context(), good()...)
	if code != exitFailed || !strings.Contains(said, "no valid credentials: run `aws configure`") {
		t.Errorf("%d %s", code, said)
	}
	if text, err := os.ReadFile(asked); err != nil || strings.Count(string(text), "\n") != 1 {
		t.Errorf("it went on: %s %v", text, err)
	}
}

// A region that is none, or is not enabled, is named: the first already where it is asked who asks.
func TestNoSuchRegion(t *testing.T) {
	fakeAWS(t, `case "$*" in
		*us-east-9*) echo "Could not connect to the endpoint URL" >&2; exit 255 ;;
		*ap-east-1*) echo "An error occurred (InvalidClientTokenId) when calling an operation" >&2; exit 254 ;;
		*get-caller-identity*) echo '{"Account":"123456789012"}' ;;
		*) echo "An error occurred: does not exist, ResourceNotFoundException, (404)" >&2; exit 255 ;;
	esac`)
	for regions, asked := range map[string]string{
		"us-east-9,eu-west-1": "get-caller-identity --region us-east-9: Could not connect",
		"eu-west-1,us-east-9": "describe-stacks --region us-east-9: Could not connect",
		"ap-east-1":           "get-caller-identity --region ap-east-1: An error occurred (InvalidClientTokenId)",
	} {
		code, _, said := call(t.Context(), good("-regions", regions)...)
		if code != exitFailed || !strings.Contains(said, asked) || !strings.Contains(said, "-regions may name only regions that this account has enabled") {
			t.Errorf("%s: %d %s", regions, code, said)
		}
	}
}

// If the state does not allow what is asked for, only questions have been asked.
func TestRefusedBeforeAnythingChanges(t *testing.T) {
	asked := fakeAWS(t, `case "$*" in
		*get-caller-identity*) echo '{"Account":"123456789012"}' ;;
		*describe-table*-views*) echo '{}' ;;
		*describe-stacks*) echo "An error occurred (ValidationError): Stack with id x does not exist" >&2; exit 255 ;;
		*get-account*) echo None ;;
		*describe-table*|*describe-secret*) echo "An error occurred (ResourceNotFoundException)" >&2; exit 255 ;;
		*) echo "An error occurred (404)" >&2; exit 255 ;;
	esac`)
	code, _, said := call(t.Context(), good()...)
	if code != exitFailed || !strings.Contains(said, "a table parley-prod-views but no stack") || !strings.Contains(said, "Nothing was changed") {
		t.Errorf("%d %s", code, said)
	}
	text, err := os.ReadFile(asked)
	if err != nil {
		t.Fatal(err)
	}
	for question := range strings.Lines(string(text)) {
		if !strings.Contains(question, "describe-") && !strings.Contains(question, "get-") && !strings.Contains(question, "head-") {
			t.Errorf("it did %s", question)
		}
	}
}

// Ctrl-C reaches the aws command, and the program says where things stand.
func TestInterrupted(t *testing.T) {
	asked := fakeAWS(t, `trap 'echo interrupted >>"$0.interrupted"; exit 130' INT; echo up >"$0.up"; read never <"$0.wait"`)
	aws := filepath.Join(filepath.Dir(asked), "aws")
	for _, pipe := range []string{".up", ".wait"} {
		if err := syscall.Mkfifo(aws+pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan string)
	go func() {
		code, _, said := call(ctx, good()...)
		if code != exitFailed {
			said += "with another exit code"
		}
		ended <- said
	}()
	if _, err := os.ReadFile(aws + ".up"); err != nil { // waits until the command is up
		t.Fatal(err)
	}
	stop()
	if said := <-ended; said != stopped {
		t.Errorf("it said %q", said)
	}
	if text, err := os.ReadFile(aws + ".interrupted"); err != nil || string(text) != "interrupted\n" {
		t.Errorf("the aws command got %q, %v", text, err)
	}
}

// A step that fails says which, why, and that the same command goes on from there.
func TestStepFails(t *testing.T) {
	var out bytes.Buffer
	var done []string
	p := workplace{work: t.TempDir(), out: &out, aws: func(_ context.Context, args ...string) (string, error) {
		done = append(done, strings.Join(args, " "))
		if args[0] == "third" {
			return "", &awsError{"third", "An error occurred"}
		}
		return "arn:first\n", nil
	}}
	steps := []step{
		{title: "one", args: []string{"first"}, save: "arn of x"},
		{title: "two", args: []string{"second", "Arn=<arn of x>", "<work>/a.yaml"}, file: "a.yaml", text: "content", slow: true},
		{title: "three", args: []string{"third"}},
		{title: "four", args: []string{"fourth"}},
	}
	err := runSteps(t.Context(), steps, p)
	if err == nil || !strings.Contains(err.Error(), "three: aws third: An error occurred") || !strings.Contains(err.Error(), "run the same command again") {
		t.Error(err)
	}
	if want := "first\nsecond Arn=arn:first " + p.work + "/a.yaml\nthird"; strings.Join(done, "\n") != want {
		t.Errorf("done is %q", done)
	}
	if text, err := os.ReadFile(filepath.Join(p.work, "a.yaml")); err != nil || string(text) != "content" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if !strings.Contains(out.String(), "[2/4] two\n    aws second Arn=arn:first") {
		t.Errorf("it printed\n%s", &out)
	}
}

const sampleKey = "0123456789abcdefghijklmnopqrstuv"

// carried carries the plan of a running Parley out with what answers in the place of the aws
// command, and returns what was printed.
func carried(t *testing.T, answers func(work string, args []string) (string, error)) (out, work string, err error) {
	t.Helper()
	_, steps := planned(t, parsed(t, good()...), running("us-east-1", "eu-west-1"))
	var b bytes.Buffer
	work = t.TempDir()
	err = runSteps(t.Context(), steps, workplace{work: work, out: &b, aws: func(_ context.Context, args ...string) (string, error) {
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
			return "", &awsError{args[1], "value CursorKey=" + sampleKey + " passed to --parameter-overrides must be of format Key=Value"}
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

// A stack does not notice that its secret is gone: the error says how to create another, or how to
// restore it.
func TestSecretIsGone(t *testing.T) {
	_, steps := planned(t, parsed(t, good()...), running("us-east-1", "eu-west-1"))
	for failure, wants := range map[string][]string{
		"An error occurred (ResourceNotFoundException)": {
			"read the cursor key", "It was deleted. Create another", "aws secretsmanager get-random-password --region us-east-1",
			"aws secretsmanager create-secret --region us-east-1 --name parley-prod-cursors --secret-string file:///dev/stdin",
		},
		"An error occurred (InvalidRequestException): the secret was marked for deletion": {
			"aws secretsmanager restore-secret --region us-east-1 --secret-id parley-prod-cursors",
		},
	} {
		err := runSteps(t.Context(), steps, workplace{work: t.TempDir(), out: &bytes.Buffer{}, aws: func(_ context.Context, args ...string) (string, error) {
			if slices.Contains(args, "get-secret-value") {
				return "", &awsError{args[1], failure}
			}
			return "x", nil
		}})
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("it said %v, want %q", err, want)
			}
		}
	}
}

// A stack that cannot be deployed is CloudFormation's to refuse; the error says what to do about it.
func TestStackIsRefused(t *testing.T) {
	for status, want := range map[string]string{
		"ROLLBACK_COMPLETE":           "aws cloudformation delete-stack --region us-east-1 --stack-name parley-prod-global",
		"UPDATE_ROLLBACK_FAILED":      "aws cloudformation continue-update-rollback --region us-east-1 --stack-name parley-prod-global",
		"UPDATE_ROLLBACK_IN_PROGRESS": "Wait until that is over",
	} {
		_, _, err := carried(t, func(string, []string) (string, error) {
			return "", &awsError{"deploy", "Stack is in " + status + " state and can not be updated."}
		})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "describe-stack-events") > 1 {
			t.Errorf("%s: %v", status, err)
		}
	}
}
