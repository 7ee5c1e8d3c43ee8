// Operate is the operators' command line. It talks to the regions of a Parley over HTTP, to those of
// infra/local as to deployed ones.
//
//	go run ./infra/operate -help
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitDiffers = 3 // what was compared is not the same
)

// errDiffers is the outcome of a comparison that worked and found differences.
var errDiffers = errors.New("there are differences")

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// stopped is how an exit is asked for while the command line is read.
type stopped int

// run is the program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if asked := recover(); asked != nil {
			if _, is := asked.(stopped); !is {
				panic(asked)
			}
			code = int(asked.(stopped))
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.Name("operate"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(stopped(code)) }), kong.Help(help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: false, WrapUpperBound: 110}))
	if err != nil {
		panic(err) // the grammar is fixed
	}
	if len(args) == 0 {
		args = []string{"-help"}
	}
	parsed, err := parser.Parse(twoDashes(args))
	if err != nil {
		return complain(stderr, err)
	}
	s, err := newSession(ctx, &c.Global, stdout, stderr)
	if err == nil {
		err = parsed.Run(s)
	}
	var wrong usageError
	switch {
	case errors.As(err, &wrong):
		return complain(stderr, err)
	case errors.Is(err, errDiffers):
		return exitDiffers
	case err != nil:
		fmt.Fprintf(stderr, "operate: %v\n", err)
		return exitFailed
	}
	return 0
}

func complain(stderr io.Writer, err error) int {
	what := ""
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		what = " " + parse.Context.Selected().FullPath()
		what = strings.TrimPrefix(what, " operate")
	}
	fmt.Fprintf(stderr, "operate: %s\nTry operate%s -help.\n", oneDash(err.Error()), what)
	return exitUsage
}

// twoDashes lets flags be given with one dash, as Go's programs take them.
func twoDashes(args []string) []string {
	out := make([]string, len(args))
	copy(out, args)
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
	dashes  = regexp.MustCompile(`--([a-z])`)
	columns = regexp.MustCompile(`(?m)^(\s+)(-h, )?--([a-z]\S*)(  +|$)`)
)

// oneDash shows flags as they are usually given here.
func oneDash(text string) string { return dashes.ReplaceAllString(text, "-$1") }

// help prints kong's help with flags of one dash.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	var b bytes.Buffer
	out := ctx.Stdout
	ctx.Stdout = &b
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = out
	text := columns.ReplaceAllString(b.String(), "$1$2-$3$4 ")
	text = regexp.MustCompile(`(?m) +$`).ReplaceAllString(oneDash(text), "")
	if err == nil {
		_, err = io.WriteString(out, text)
	}
	return err
}
