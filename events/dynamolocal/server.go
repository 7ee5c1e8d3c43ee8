// Package dynamolocal gets, starts and spoils DynamoDB Local, for tests, for measurements and
// for infra/local.
//
// DynamoDB Local is Amazon's; its licence (https://aws.amazon.com/dynamodblocallicense/) wants
// its users to have an AWS account, and nobody to pass it on. It is fetched and started only for
// those who ask for it.
package dynamolocal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Variable names the environment variable that asks for DynamoDB Local: "local" lets tests start
// it, a URL is that of one that runs.
const Variable = "PARLEY_DYNAMODB"

// startWithin bounds the wait for a start: about 1 s is usual, more where cores are few.
const startWithin = 60 * time.Second

// Options say how DynamoDB Local runs.
type Options struct {
	// Data is the folder that keeps its tables; "" keeps them in memory.
	Data string
	// Clock moves and speeds up its clock, as faketime(1) writes it: "+0 x300" lets 5 minutes pass
	// each second. It needs libfaketime. "" is the machine's clock.
	Clock string
}

// Server is a running DynamoDB Local. It plays any number of regions and accounts, see
// [Endpoint]. It listens on all interfaces; it cannot be told otherwise.
type Server struct {
	URL string

	stdin  io.Closer // its end of file ends the process
	exited chan struct{}
	output *tail
	once   sync.Once
}

// Start fetches DynamoDB Local if need be, see [Fetch], and starts it on a free port. It ends
// with Close, or when this process ends, however it does.
func Start(ctx context.Context, o Options) (*Server, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, errors.New("DynamoDB Local needs Java 17 or later, and java is not on the path; on Debian: apt-get install default-jre-headless")
	}
	home, err := Fetch(ctx)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		s, err := start(ctx, java, home, o)
		if err == nil || try == 3 || ctx.Err() != nil {
			return s, err // most likely another process took the port
		}
	}
}

func start(ctx context.Context, java, home string, o Options) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	var vm, store []string
	if o.Data == "" {
		// It lives for a test: what Java spends on getting faster does not come back.
		vm, store = []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}, []string{"-inMemory"}
	} else {
		data, err := filepath.Abs(o.Data)
		if err != nil {
			return nil, fmt.Errorf("find the folder for DynamoDB Local: %w", err)
		}
		if err := os.MkdirAll(data, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder for DynamoDB Local: %w", err)
		}
		store = []string{"-dbPath", data}
	}
	// The shell waits for the end of its input, which comes with the end of this process at the
	// latest, and takes Java with it: a test that is killed leaves nothing running. A Ctrl-C is
	// for this process, which may still need DynamoDB to end well.
	args := slices.Concat(
		[]string{"-c", `trap "" INT; "$@" & read -r _; kill -9 $!; wait`, "sh"},
		[]string{java, "-Xmx1g", "-Djava.library.path=" + filepath.Join(home, "DynamoDBLocal_lib")}, vm,
		[]string{"-jar", filepath.Join(home, "DynamoDBLocal.jar"), "-port", strconv.Itoa(port), "-disableTelemetry"}, store,
	)
	cmd := exec.Command("sh", args...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "DDB_LOCAL_TELEMETRY=0")
	if o.Clock != "" {
		lib, err := faketime()
		if err != nil {
			return nil, err
		}
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+lib, "FAKETIME="+o.Clock)
	}
	s := &Server{URL: "http://127.0.0.1:" + strconv.Itoa(port), exited: make(chan struct{}), output: &tail{}}
	cmd.Stdout, cmd.Stderr = s.output, s.output
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start DynamoDB Local: %w", err)
	}
	go func() {
		_ = cmd.Wait() // killed, always
		close(s.exited)
	}()
	if err := s.await(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("start DynamoDB Local: %w: %s", err, s.output.text())
	}
	return s, nil
}

// Close kills it, as kill -9 does. What it has acknowledged is in its folder.
func (s *Server) Close() {
	s.once.Do(func() { _ = s.stdin.Close() })
	<-s.exited
}

// await waits until it answers.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			return res.Body.Close() // 400, but it answers
		}
		if strings.Contains(s.output.text(), "Exception") {
			return errors.New("it failed")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// faketime finds the library that moves a process's clock.
func faketime() (string, error) {
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1") // the pattern is right
	if len(found) == 0 {
		return "", errors.New("libfaketime is not installed; on Debian: apt-get install faketime")
	}
	return found[0], nil
}

// tail keeps the end of what a process says.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 16 << 10
	if t.buf.Len() > most {
		t.buf.Next(t.buf.Len() - most/2)
	}
	return t.buf.Write(p)
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.buf.String())
}
