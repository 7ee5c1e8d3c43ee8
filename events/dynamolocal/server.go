// Package dynamolocal downloads, starts and meters DynamoDB Local, for tests, for measurements and for
// infra/local.
//
// DynamoDB Local is Amazon's. Its licence (https://aws.amazon.com/dynamodblocallicense/) requires that
// its users have an AWS account, and forbids redistribution. So it is downloaded and started only on
// request.
package dynamolocal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
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

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Variable is the environment variable that enables DynamoDB Local: "local" lets tests start it, a URL
// is that of a running one.
const Variable = "PARLEY_DYNAMODB"

// startTimeout bounds the start. It usually takes about 1 s, longer on a machine with few cores.
const startTimeout = 60 * time.Second

// Options are the settings of DynamoDB Local.
type Options struct {
	// Data is the folder of its tables; "" keeps them in memory.
	Data string
	// Port is where it listens; 0: on a free port.
	Port int
}

// Server is a running DynamoDB Local. It simulates any number of regions and accounts, see [Endpoint].
// It listens on all interfaces, which cannot be configured.
type Server struct {
	URL  string
	Port int

	stdin  io.Closer // closing it ends the process
	exited chan struct{}
	output *tail
	once   sync.Once
}

// Start downloads DynamoDB Local if necessary, see [Fetch], and starts it. It ends with Close, or when this
// process ends, even if it is killed.
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
			return s, err // a retry helps if another process took the port
		}
	}
}

func start(ctx context.Context, java, home string, o Options) (*Server, error) {
	port, err := o.Port, error(nil)
	if port == 0 {
		port, err = freePort()
	}
	if err != nil {
		return nil, err
	}
	var vm, store []string
	if o.Data == "" {
		// It runs for a test only: full optimization costs more than it saves.
		vm, store = []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}, []string{"-inMemory"}
	} else {
		data, err := filepath.Abs(o.Data)
		if err != nil {
			return nil, fmt.Errorf("locate the folder of DynamoDB Local: %w", err)
		}
		if err := os.MkdirAll(data, 0o700); err != nil {
			return nil, fmt.Errorf("create the folder of DynamoDB Local: %w", err)
		}
		store = []string{"-dbPath", data}
	}
	// A second shell waits for the end of its input, at the latest when this process ends, and then kills
	// Java: a killed test leaves no process behind. The first one ends when Java does, and with it the
	// second. They ignore Ctrl-C, because this process needs DynamoDB for its shutdown.
	args := slices.Concat(
		[]string{"-c", `trap "" INT; exec 3<&0; "$@" & java=$!; { read -r _ <&3; kill -9 $java; } & wait $java; kill $!`, "sh"},
		[]string{java, "-Xmx1g", "-Djava.library.path=" + filepath.Join(home, "DynamoDBLocal_lib")}, vm,
		[]string{"-jar", filepath.Join(home, "DynamoDBLocal.jar"), "-port", strconv.Itoa(port), "-disableTelemetry"}, store,
	)
	cmd := exec.Command("sh", args...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "DDB_LOCAL_TELEMETRY=0")
	s := &Server{URL: "http://127.0.0.1:" + strconv.Itoa(port), Port: port, exited: make(chan struct{}), output: &tail{}}
	cmd.Stdout, cmd.Stderr = s.output, s.output
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start DynamoDB Local: %w", err)
	}
	go func() {
		_ = cmd.Wait() // it was killed, or says why in its output
		close(s.exited)
	}()
	if err := s.await(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("start DynamoDB Local: %w: %s", err, s.output.text())
	}
	return s, nil
}

// Exited returns a channel that is closed when the process has ended, by Close or by itself.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Output returns the end of what the process has printed.
func (s *Server) Output() string { return s.output.text() }

// Close kills the process, as kill -9 does. Acknowledged writes are in its folder.
func (s *Server) Close() {
	s.once.Do(func() { _ = s.stdin.Close() })
	<-s.exited
}

// await waits until the server answers.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			if res.Header.Get("X-Amzn-Requestid") == "" {
				err = errors.New("another program answers on the port")
			}
			return errors.Join(err, res.Body.Close()) // with status 400
		}
		if strings.Contains(s.output.text(), "Exception") {
			return errors.New("it printed an exception")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freePort finds a port below those that the system gives to connections and listeners by itself: it
// would give one of those away again before Java listens on it.
func freePort() (port int, err error) {
	const lowest, ports, tries = 20_000, 12_000, 20
	for range tries {
		port = lowest + mathrand.IntN(ports)
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// Endpoint is a server with DynamoDB's protocol, and an account on it.
type Endpoint struct {
	URL string
	// Key is the access key, of letters and digits. In DynamoDB Local each key has its own tables in
	// each region.
	Key string
	// Client makes the calls. If nil, each Config gets a new one, whose idle connections are not closed.
	Client *http.Client
}

// NewKey returns a random access key, and so an empty account in DynamoDB Local.
func NewKey() string { return rand.Text() }

// NewClient returns a client that keeps up to 256 idle connections. With the default of 2 for each host
// almost every call under load opens a new connection.
func NewClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	return &http.Client{Transport: transport}
}

// Config returns the configuration of clients of the endpoint in a region.
func (e Endpoint) Config(region string) aws.Config {
	client := e.Client
	if client == nil {
		client = NewClient()
	}
	return aws.Config{
		Region:       region,
		BaseEndpoint: aws.String(e.URL),
		Credentials:  credentials.NewStaticCredentialsProvider(e.Key, "local", ""),
		HTTPClient:   client,
	}
}

// tail keeps the end of a process's output.
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
