// Package awstest plays those parts of AWS that Parley uses beside DynamoDB, for tests of the real
// Lambda binary: Lambda itself and the triggers of its functions, the WebSocket API of API Gateway,
// EventBridge, SQS and KMS, and an identity provider. Each part speaks the protocol of the service,
// as far as Parley uses it, can be made to fail, and records what it was asked.
//
// DynamoDB is DynamoDB Local, see package dynamotest. [Moto] is another implementation of the same
// services, against which the doubles of this package can be held.
package awstest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Region is the region in which everything of this package is.
const Region = "eu-west-1"

// Account is the account that owns it.
const Account = "123456789012"

// Config returns the configuration of the SDK's clients of a server at url. They do not retry.
func Config(url string) aws.Config {
	return aws.Config{
		Region: Region, BaseEndpoint: aws.String(url), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
}

// serve starts a server for the duration of a test and returns its URL.
func serve(t testing.TB, h http.Handler) (url string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// call is one call in the protocol AWS JSON: the operation and its decoder.
type call struct {
	operation string
	body      []byte
	trace     string // the header X-Amzn-Trace-Id
}

// decode reads the parameters of a call. The fields of into are spelled as the service spells them.
func (c call) decode(into any) error { return json.Unmarshal(c.body, into) }

// failure is an answer in the form of a service's error.
func failure(status int, kind, message string) (int, any) {
	return status, map[string]string{"__type": kind, "message": message}
}

// serveJSON starts a service that speaks AWS JSON. answer gets each call and returns the status and
// body of the answer. Calls to another service are refused.
func serveJSON(t testing.TB, service string, answer func(call) (status int, body any)) (url string) {
	t.Helper()
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		body, err := io.ReadAll(r.Body)
		status, out := failure(http.StatusBadRequest, "UnknownOperationException", "")
		if err == nil && name == service && json.Valid(body) {
			status, out = answer(call{operation, body, r.Header.Get("X-Amzn-Trace-Id")})
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out) // the caller may be gone
	}))
}

// Output collects what processes write, in a file: a line is there as soon as it was written.
type Output struct {
	t    testing.TB
	file *os.File
}

func newOutput(t testing.TB) Output {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "output"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() }) // it is only read by name
	return Output{t, file}
}

// Lines returns the lines written so far.
func (o Output) Lines() []string {
	text, err := os.ReadFile(o.file.Name())
	if err != nil {
		o.t.Errorf("read the output of a process: %v", err)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

// Moto starts moto, which plays many services of AWS at one address, for the duration of a test, and
// returns its URL. The test is skipped where moto is not installed.
func Moto(t testing.TB) (url string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err == nil {
		err = exec.Command(python, "-c", "import moto.server").Run()
	}
	if err != nil {
		t.Skip("needs moto: pip install 'moto[server,cloudformation,events,sqs,kms]'")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close() // moto takes the port
	output := newOutput(t)
	cmd := exec.Command(python, "-m", "moto.server", "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr = output.file, output.file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-exited
	})
	url = fmt.Sprint("http://127.0.0.1:", port)
	for deadline := time.After(2 * time.Minute); ; {
		if r, err := http.Get(url); err == nil {
			_ = r.Body.Close()
			return url
		}
		select {
		case <-exited:
			t.Fatalf("moto does not start: %s", output.Lines())
		case <-deadline:
			t.Fatalf("moto does not answer: %s", output.Lines())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
