// Operate is the command line of Parley's operators. It talks to the regions over HTTP, both to those
// of infra/local and to deployed ones. README.md is its guide.
//
//	go run ./infra/operate help
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"parley/functions/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes. 0 is success.
const (
	exitFailed  = 1
	exitUsage   = 2 // the command line is wrong
	exitDiffers = 3 // a comparison found differences, or an import could not take everything
)

// errDiffers is returned by a comparison that succeeded and found differences, and by an import that left
// something out. They have printed what.
var errDiffers = errors.New("there are differences")

// usageError is an error in the command line.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitRequest is the panic with which kong's help and version flags end the parsing.
type exitRequest int

// run is the program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if thrown := recover(); thrown != nil {
			request, is := thrown.(exitRequest)
			if !is {
				panic(thrown)
			}
			code = int(request)
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.Name("operate"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exitRequest(code)) }), kong.Help(printHelp), kong.Vars{"version": wire.Version()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}))
	if err != nil {
		panic(err) // the grammar is fixed
	}
	parsed, err := parser.Parse(kongArgs(args))
	if parse, is := errors.AsType[*kong.ParseError](err); is {
		printUsageError(stderr, err, parse.Context.Selected())
		return exitUsage
	}
	s, err := newSession(ctx, &c.Global, stdout, stderr)
	if err == nil {
		err = parsed.Run(s)
	}
	_, wrongUsage := errors.AsType[usageError](err)
	switch {
	case wrongUsage:
		printUsageError(stderr, err, parsed.Selected())
		return exitUsage
	case errors.Is(err, errDiffers):
		return exitDiffers
	case err != nil:
		fmt.Fprintf(stderr, "operate: %v\n", err)
		return exitFailed
	}
	return 0
}

// printUsageError says what is wrong with the command line and which help page describes the command.
// For a missing argument it also says what the argument is.
func printUsageError(stderr io.Writer, err error, command *kong.Node) {
	text, path := err.Error(), "operate"
	if command != nil {
		path = command.FullPath()
		for _, arg := range command.Positional {
			if strings.Contains(text, `"<`+arg.Name+`>"`) {
				text += ": " + arg.Help
			}
		}
	}
	fmt.Fprintf(stderr, "operate: %s\nTry %s -help.\n", oneDash(text), path)
}

// kongArgs translates a command line to what kong parses. Flags may have one dash, as usual for Go
// programs; "help" may stand for -help; no arguments at all ask for help.
func kongArgs(args []string) []string {
	if len(args) == 0 {
		args = []string{"help"}
	}
	out := append([]string(nil), args...)
	if out[0] == "help" {
		out = append(out[1:], "--help")
	}
	for i, arg := range out {
		if arg == "--" {
			break
		}
		if len(arg) > 2 && arg[0] == '-' && (arg[1] >= 'a' && arg[1] <= 'z') {
			out[i] = "-" + arg
		}
	}
	return out
}

var (
	twoDashes  = regexp.MustCompile(`--([a-z])`)
	flagColumn = regexp.MustCompile(`(?m)^(\s+)(-h, )?--([a-z]\S*)(  +|$)`)
	lineEnds   = regexp.MustCompile(`(?m) +$`)
)

// oneDash writes flags with one dash.
func oneDash(text string) string { return twoDashes.ReplaceAllString(text, "-$1") }

// printHelp prints kong's help, writing flags with one dash.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	var b bytes.Buffer
	out := ctx.Stdout
	ctx.Stdout = &b
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = out
	if err != nil {
		return err
	}
	text := oneDash(flagColumn.ReplaceAllString(b.String(), "$1$2-$3$4 "))
	_, err = io.WriteString(out, lineEnds.ReplaceAllString(text, ""))
	return err
}
