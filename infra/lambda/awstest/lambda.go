package awstest

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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Function plays AWS Lambda for one function: a process of the binary, and the Runtime API that it
// asks for work. A process that has ended is started again by the next invocation, as by Lambda.
type Function struct {
	Env     []string      // of the process; changes apply to the next process
	Timeout time.Duration // of an invocation; 0 is a minute
	// AllowLoops is RecursiveLoop: Allow. Otherwise a message that its own invocations have caused through
	// a chain of [MaxLoop] is not handed to it.
	AllowLoops bool
	Metrics    Output // stdout of all processes
	Logs       Output // stderr of all processes

	t       testing.TB
	binary  string
	process atomic.Pointer[process]

	mu      sync.Mutex // one invocation at a time
	starts  int
	invoked int
}

// FunctionError is an error that a function reported to Lambda.
type FunctionError struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func (e *FunctionError) Error() string { return e.Type + ": " + e.Message }

// ErrExited says that the process ended during an invocation.
var ErrExited = errors.New("the process exited")

// ErrTimeout says that the invocation was not answered in time.
var ErrTimeout = errors.New("the function took too long and was killed")

// MaxLoop is how often Lambda invokes a function in one chain of invocations, each of which sends the message
// that causes the next. It recognises a chain by the trace header that the SDK passes on. See "Use Lambda
// recursive loop detection to prevent infinite loops" in the Lambda Developer Guide.
const MaxLoop = 16

// ErrLoop says that a message was not handed to the function: it goes to the queue's dead letters.
var ErrLoop = errors.New("a recursive loop was detected and stopped")

// NewFunction returns a function that runs a binary with an environment.
func NewFunction(t testing.TB, binary string, env []string) *Function {
	t.Helper()
	f := &Function{t: t, binary: binary, Env: env, Metrics: newOutput(t), Logs: newOutput(t)}
	t.Cleanup(f.Stop)
	return f
}

// Starts returns how many processes were started.
func (f *Function) Starts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts
}

// Invoke hands an event to the function and returns its answer. A process that does not answer
// within the timeout is killed.
func (f *Function) Invoke(payload []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chain := chainOf(payload)
	if chain >= MaxLoop && !f.AllowLoops {
		return nil, ErrLoop
	}
	p := f.process.Load()
	if p == nil || p.dead() {
		p = f.start()
	}
	f.invoked++
	timeout := cmp.Or(f.Timeout, time.Minute)
	i := &invocation{fmt.Sprintf("invocation-%d", f.invoked), payload, chain + 1, time.Now().Add(timeout), make(chan outcome, 1)}
	timer := time.NewTimer(timeout + 100*time.Millisecond)
	defer timer.Stop()
	for work := p.work; ; {
		select {
		case work <- i:
			work = nil // it is handed out once
		case o := <-i.done:
			return o.answer, o.err
		case <-p.exited:
			p.end()
			select { // it may have answered before
			case o := <-i.done:
				return o.answer, o.err
			default:
				return nil, ErrExited
			}
		case <-timer.C:
			p.end()
			return nil, ErrTimeout
		}
	}
}

// The length of a chain is in the Lineage of a trace header. How AWS encodes it is not documented.
const lineage = "Lineage=parley:"

// TraceHeader is the trace header of a call that an invocation makes which is the last of a chain so long.
func TraceHeader(chain int) string {
	return fmt.Sprintf("Root=1-00000000-000000000000000000000000;%s%d", lineage, chain)
}

// chainOf returns the length of the chain that led to an event: the longest of its messages.
func chainOf(payload []byte) (longest int) {
	var event struct {
		Records []struct {
			Attributes MessageAttributes `json:"attributes"`
		}
	}
	_ = json.Unmarshal(payload, &event) // other events have no messages
	for _, r := range event.Records {
		_, chain, _ := strings.Cut(r.Attributes.TraceHeader, lineage)
		n, _ := strconv.Atoi(chain) // 0: the chain begins
		longest = max(longest, n)
	}
	return longest
}

// Kill ends the process like kill -9, whatever it is doing.
func (f *Function) Kill() {
	if p := f.process.Load(); p != nil {
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			f.t.Errorf("kill a process: %v", err)
		}
	}
}

// Stop waits for the invocation under way and ends the process. The next one knows only what is
// stored.
func (f *Function) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.process.Load(); p != nil {
		p.end()
	}
}

// process is one run of the binary. It has a Runtime API of its own, so that requests of a dead
// process reach no other.
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
	chain    int // how many invocations the chain has with this one
	deadline time.Time
	done     chan outcome
}

type outcome struct {
	answer []byte
	err    error
}

func (f *Function) start() *process {
	p := &process{work: make(chan *invocation), exited: make(chan struct{}), open: map[string]*invocation{}}
	p.api = httptest.NewServer(p.runtimeAPI())
	p.cmd = exec.Command(f.binary)
	p.cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(p.api.URL, "http://")}, f.Env...)
	p.cmd.Stdout, p.cmd.Stderr = f.Metrics.file, f.Logs.file
	if err := p.cmd.Start(); err != nil {
		f.t.Fatalf("start the binary: %v", err)
	}
	go func() {
		_ = p.cmd.Wait() // however it ends
		close(p.exited)
	}()
	f.process.Store(p)
	f.starts++
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

// runtimeAPI is the Lambda Runtime API, version 2018-06-01.
func (p *process) runtimeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case i := <-p.work:
			p.mu.Lock()
			p.open[i.id] = i
			p.mu.Unlock()
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", i.id)
			w.Header().Set("Lambda-Runtime-Trace-Id", TraceHeader(i.chain))
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(i.deadline.UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:"+Region+":"+Account+":function:parley")
			_, _ = w.Write(i.payload) // the process may be gone
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil { // else the process ended while it answered
			p.finish(w, r, outcome{body, nil})
		}
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) {
		failure := &FunctionError{}
		if err := json.NewDecoder(r.Body).Decode(failure); err != nil {
			failure.Message = err.Error()
		}
		p.finish(w, r, outcome{nil, failure})
	})
	return mux
}

func (p *process) finish(w http.ResponseWriter, r *http.Request, o outcome) {
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

// Invoker plays the API by which functions invoke the function called name. It returns its URL.
func Invoker(t testing.TB, name string, invoke func(payload []byte) ([]byte, error)) (url string) {
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(r.Body)
		signed := strings.Contains(r.Header.Get("Authorization"), "/"+Region+"/lambda/aws4_request")
		if err != nil || !json.Valid(payload) || !signed || r.URL.Path != "/2015-03-31/functions/"+name+"/invocations" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		answer, err := invoke(payload)
		if err != nil {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
		}
		_, _ = w.Write(answer) // the caller may be gone
	}))
}

// Payload returns the payload of an event source mapping: records of a stream, or messages of a
// queue.
func Payload[R any](t testing.TB, records []R) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Failed returns the records that a mapping delivers again after an answer of the function. id
// returns what a failure names: the sequence number of a record, or the id of a message. In a stream,
// all records after the first failed one come again.
func Failed[R any](t testing.TB, answer []byte, records []R, id func(R) string) (again []R) {
	t.Helper()
	var report struct {
		Failures []struct {
			Item string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &report); err != nil || report.Failures == nil {
		t.Fatalf("the function answers %s: %v", answer, err)
	}
	if len(report.Failures) == 0 {
		return nil
	}
	from := slices.IndexFunc(records, func(r R) bool { return id(r) == report.Failures[0].Item })
	if from < 0 {
		t.Fatalf("the answer names a record that was not in the batch: %s", answer)
	}
	return records[from:]
}
