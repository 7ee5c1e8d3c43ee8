package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A world runs in a bubble of testing/synctest, and its random numbers are those of testing/cryptotest: both need
// a test. So worlds run in worker processes, which are the test binary of this package. A world that panics,
// deadlocks or does not end takes its worker with it, and nothing else.

const (
	// worldTime bounds the time of one world. A world takes about 10 ms.
	worldTime = time.Minute
	// worldsOfWorker is how many worlds run in one process: none may find what many others left behind.
	worldsOfWorker = 1000
	// keptOutput is how much of the end of a worker's output is kept for the account of a failure, in bytes.
	keptOutput = 256 << 10
)

// order is a run that a worker is asked for, one line of JSON.
type order struct {
	Schedule Schedule
	Options  Options
}

// serveWorlds is the program of a worker: it runs the worlds that are asked for on in, and answers each on
// out, until in ends. It does not return.
func serveWorlds(in io.Reader, out io.Writer) {
	useOneProcessor()
	os.Stdout = os.Stderr // what the testing package prints must not mix with the answers
	os.Args = []string{os.Args[0], "-test.v"}
	serve := func(t *testing.T) {
		requests, answers := json.NewDecoder(in), json.NewEncoder(out)
		for {
			var j order
			if err := requests.Decode(&j); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if err := answers.Encode(runWorld(t, j.Schedule, j.Options)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "World", F: serve}}, nil, nil)
}

// useOneProcessor must be called in a process before it runs worlds. A world does one thing at a time, and there
// are as many workers as processors; and the product decides by the number of processors how many parts of a log
// it reads side by side, which must not differ. Garbage is short-lived.
func useOneProcessor() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
}

// checkFatal is the check that fails if the test of a world fails or panics by itself, and checkHang if it
// does not end.
const (
	checkFatal = "fatal"
	checkHang  = "hang"
)

// runWorld runs a world in a test of its own, which may fail without failing the others.
func runWorld(t *testing.T, s Schedule, o Options) (r Result) {
	if !t.Run("world", func(t *testing.T) { r = Run(t, s, o) }) && r.Failure == nil {
		r.Failure = &Failure{Step: noStep, Check: checkFatal, Text: "the test of the world failed"}
	}
	return r
}

// worker runs worlds in a process of its own, one at a time. A process that dies is replaced.
type worker struct {
	binary string
	limit  time.Duration // for one world; worldTime if zero

	process *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
	output  *tail
	worlds  int // that this process has run
}

// run runs a world. The error says that no worker can be started, or that ctx has ended; what happens to
// the world is in the result.
func (w *worker) run(ctx context.Context, s Schedule, o Options) (Result, error) {
	if w.worlds >= worldsOfWorker {
		w.close()
	}
	if w.process == nil {
		if err := w.start(); err != nil {
			return Result{}, fmt.Errorf("start a worker: %w", err)
		}
	}
	w.worlds++
	var hung atomic.Bool
	process := w.process.Process
	limit := cmp.Or(w.limit, worldTime)
	timer := time.AfterFunc(limit, func() { hung.Store(true); _ = process.Kill() })
	stop := context.AfterFunc(ctx, func() { _ = process.Kill() })
	var r Result
	err := json.NewEncoder(w.in).Encode(order{s, o})
	if err == nil {
		err = w.answers.Decode(&r)
	}
	timer.Stop()
	stop()
	if ctx.Err() != nil {
		w.close()
		return Result{}, ctx.Err()
	}
	if err != nil {
		w.close()
		r = Result{Failure: &Failure{Step: noStep, Check: checkFatal, Text: panicOf(w.output.String())}}
		if hung.Load() {
			r.Failure.Check, r.Failure.Text = checkHang, fmt.Sprintf("the world did not end within %v", limit)
		}
		return r, nil
	}
	if r.Failure != nil && r.Failure.Check == checkFatal {
		r.Failure.Text = panicOf(w.output.String())
		w.close() // the next failure begins with an empty output
	}
	return r, nil
}

func (w *worker) start() (err error) {
	w.process = exec.Command(w.binary, "-worker")
	w.output = &tail{}
	w.process.Stderr = w.output
	if w.in, err = w.process.StdinPipe(); err != nil {
		return err
	}
	out, err := w.process.StdoutPipe()
	if err != nil {
		return err
	}
	w.answers, w.worlds = json.NewDecoder(out), 0
	if err = w.process.Start(); err != nil {
		w.process = nil
	}
	return err
}

// close ends the process, if there is one.
func (w *worker) close() {
	if w.process != nil {
		_ = w.in.Close()
		_ = w.process.Process.Kill()
		_ = w.process.Wait() // it was killed
		w.process = nil
	}
}

// panicOf returns the part of a worker's output that says why it died: from the line of the panic or of the
// first error on, without the lines that say which test runs.
func panicOf(output string) string {
	var kept []string
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "=== RUN") && !strings.HasPrefix(strings.TrimSpace(line), "--- PASS") {
			kept = append(kept, line)
		}
	}
	text := strings.Join(kept, "")
	for _, start := range []string{"panic: ", "fatal error: "} {
		if at := strings.Index(text, start); at >= 0 {
			text = text[at:]
		}
	}
	const most = 4000
	return strings.TrimSpace(text[:min(len(text), most)])
}

// tail is a writer that keeps the end of what is written.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(text)
	if over := t.b.Len() - 2*keptOutput; over > 0 {
		t.b.Next(t.b.Len() - keptOutput)
	}
	return len(text), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
