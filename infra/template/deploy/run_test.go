package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	for _, flag := range []string{
		"-stage", "-regions", "-remove", "-consistency", "-warm-writes", "-issuer", "-audience", "-jwks", "-domain", "-live-domain", "-check-every", "-origins",
		"-rate", "-api-rate", "-api-burst", "-publish", "-batch-window", "-log ", "-log-days", "-archive-days", "-alarm-topic", "-example", "-dry-run", "-help",
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
		if code != exitFailed || !strings.Contains(said, asked) || !strings.Contains(said, "-regions may name what this account has enabled") {
			t.Errorf("%s: %d %s", regions, code, said)
		}
	}
}

// Where what is there does not allow what is asked for, nothing but questions was asked.
func TestRefusedBeforeAnythingIsTouched(t *testing.T) {
	asked := fakeAWS(t, `case "$*" in
		*get-caller-identity*) echo '{"Account":"123456789012"}' ;;
		*describe-stacks*-region\ *) echo ROLLBACK_COMPLETE ;;
		*describe-stacks*) echo "An error occurred (ValidationError): Stack with id x does not exist" >&2; exit 255 ;;
		*get-account*) echo None ;;
		*describe-key*) echo "An error occurred (NotFoundException)" >&2; exit 255 ;;
		*describe-table*|*describe-secret*) echo "An error occurred (ResourceNotFoundException)" >&2; exit 255 ;;
		*) echo "An error occurred (404)" >&2; exit 255 ;;
	esac`)
	code, _, said := call(t.Context(), good()...)
	if code != exitFailed || !strings.Contains(said, "could not be made (ROLLBACK_COMPLETE)") || !strings.Contains(said, "Nothing was changed") {
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
	asked := fakeAWS(t, `trap 'echo interrupted >>"$0.told"; exit 130' INT; echo up >"$0.up"; read never <"$0.wait"`)
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
	if text, err := os.ReadFile(aws + ".told"); err != nil || string(text) != "interrupted\n" {
		t.Errorf("the aws command was told %q, %v", text, err)
	}
}

// A step that fails says which, why, and that the same command goes on from there.
func TestStepFails(t *testing.T) {
	var out bytes.Buffer
	var done []string
	p := place{work: t.TempDir(), out: &out, aws: func(_ context.Context, args ...string) (string, error) {
		done = append(done, strings.Join(args, " "))
		if args[0] == "third" {
			return "", &saidError{"third", "An error occurred"}
		}
		return "arn:first\n", nil
	}}
	steps := []step{
		{title: "one", args: []string{"first"}, save: "arn of x"},
		{title: "two", args: []string{"second", "Arn=<arn of x>", "<work>/a.yaml"}, file: "a.yaml", text: "content", big: true},
		{title: "three", args: []string{"third"}},
		{title: "four", args: []string{"fourth"}},
	}
	_, err := do(t.Context(), steps, p)
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
