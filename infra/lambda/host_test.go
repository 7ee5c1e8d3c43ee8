package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// host plays AWS Lambda for one function: a process of the binary and the Runtime API that it
// asks for work. A process that ends is started again at the next invocation, as Lambda does.
type host struct {
	t       testing.TB
	binary  string
	env     []string
	timeout time.Duration // of an invocation; 0 is a minute

	process atomic.Pointer[process]

	mu      sync.Mutex // one invocation at a time
	starts  int
	invoked int
	metrics output // stdout of all processes
	logs    output // stderr of all processes
}

// process is one run of the binary. It has a Runtime API of its own, so that what a dead process
// had asked for reaches no other.
type process struct {
	cmd    *exec.Cmd
	api    *httptest.Server
	work   chan *invocation
	exited chan struct{}

	mu   sync.Mutex
	open map[string]*invocation
}

type invocation struct {
	id       string
	payload  []byte
	deadline time.Time
	done     chan outcome
}

// outcome is what became of an invocation.
type outcome struct {
	answer []byte
	err    error
}

// functionError is an error that the function reported, as whoever invoked it would see it.
type functionError struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func (e *functionError) Error() string { return e.Type + ": " + e.Message }

// errExited says that the process ended during an invocation.
var errExited = errors.New("the process exited")

func newHost(t testing.TB, env []string) *host {
	t.Helper()
	path := builtBinary(t)
	h := &host{t: t, binary: path, env: env, metrics: newOutput(t), logs: newOutput(t)}
	t.Cleanup(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if p := h.process.Load(); p != nil {
			p.end()
		}
	})
	return h
}

// invoke hands an event to the function and returns what it answers. A process that does not
// answer in time is killed.
func (h *host) invoke(payload []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.process.Load()
	if p == nil || p.dead() {
		p = h.start()
	}
	h.invoked++
	timeout := cmp.Or(h.timeout, time.Minute)
	i := &invocation{fmt.Sprintf("invocation-%d", h.invoked), payload, time.Now().Add(timeout), make(chan outcome, 1)}
	timer := time.NewTimer(timeout + 100*time.Millisecond)
	defer timer.Stop()
	work := p.work
	for {
		select {
		case work <- i:
			work = nil // handed out once
		case o := <-i.done:
			return o.answer, o.err
		case <-p.exited:
			p.end()
			select { // it may have answered before
			case o := <-i.done:
				return o.answer, o.err
			default:
				return nil, errExited
			}
		case <-timer.C:
			p.end()
			return nil, errors.New("the function took too long and was killed")
		}
	}
}

// kill ends the process as kill -9 does, whatever it is doing.
func (h *host) kill() {
	if err := h.process.Load().cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		h.t.Errorf("kill a process: %v", err)
	}
}

func (h *host) start() *process {
	p := &process{work: make(chan *invocation), exited: make(chan struct{}), open: map[string]*invocation{}}
	p.api = httptest.NewServer(p.routes())
	p.cmd = exec.Command(h.binary)
	p.cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(p.api.URL, "http://")}, h.env...)
	p.cmd.Stdout, p.cmd.Stderr = h.metrics.file, h.logs.file
	if err := p.cmd.Start(); err != nil {
		h.t.Fatalf("start the binary: %v", err)
	}
	go func() {
		_ = p.cmd.Wait() // however it ends
		close(p.exited)
	}()
	h.process.Store(p)
	h.starts++
	return p
}

func (p *process) dead() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) end() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.exited
	p.api.CloseClientConnections()
	p.api.Close()
}

// routes is the Runtime API.
func (p *process) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case i := <-p.work:
			p.mu.Lock()
			p.open[i.id] = i
			p.mu.Unlock()
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", i.id)
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(i.deadline.UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:123456789012:function:parley")
			_, _ = w.Write(i.payload) // the process may be gone
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		p.close(w, r, outcome{body, err})
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) {
		failure := &functionError{}
		if err := json.NewDecoder(r.Body).Decode(failure); err != nil {
			failure.Message = err.Error()
		}
		p.close(w, r, outcome{nil, failure})
	})
	return mux
}

func (p *process) close(w http.ResponseWriter, r *http.Request, o outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.open[r.PathValue("id")]
	if i == nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	delete(p.open, i.id)
	i.done <- o
	w.WriteHeader(http.StatusAccepted)
}

// output is what processes write: a file, which has a line as soon as it was written. What is known
// to have been answered is known to have been counted.
type output struct {
	t    testing.TB
	file *os.File
}

func newOutput(t testing.TB) output {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "output"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() }) // what is in it was looked at
	return output{t, file}
}

func (o output) lines() []string {
	text, err := os.ReadFile(o.file.Name())
	if err != nil {
		o.t.Errorf("read what a process wrote: %v", err)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

// binaries is a folder for what the tests build, for all of them.
var binaries string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "parley-lambda-")
	if err != nil {
		panic(err)
	}
	binaries = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // it is only litter
	os.Exit(code)
}

// binary is the binary for this machine, built once.
var binary = sync.OnceValues(func() (string, error) { return build(runtime.GOARCH) })

// builtBinary is where it is; a short run has no use for it.
func builtBinary(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: it starts processes")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build builds the binary as it is deployed, for an architecture.
func build(arch string) (string, error) {
	name := filepath.Join(binaries, "bootstrap-"+arch)
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", name, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary for %s: %w: %s", arch, err, text)
	}
	return name, nil
}
