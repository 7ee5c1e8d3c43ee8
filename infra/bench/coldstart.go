package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"parley/events/dynamolocal"
)

// coldStarts is how often each function is started; the median counts.
const coldStarts = 20

// compareColdStart starts the Lambda binary anew for each function, over and over, and takes the
// time from exec until it asks for work, and until it has answered its first invocation, all
// parts being on this machine. It is what the binary costs: Lambda adds a new sandbox and the
// loading of the code, and each call to DynamoDB or EventBridge is as far as it is there.
func compareColdStart(ctx context.Context, _ options, bin *binaries, out io.Writer) error {
	sizes, path, err := buildLambda(ctx, bin.dir)
	if err != nil {
		return err
	}
	for _, arch := range lambdaArchs {
		fmt.Fprintf(out, "   binary for %s: %.1f MiB\n", arch, float64(sizes[arch])/(1<<20))
	}
	if err := printLargest(ctx, bin.dir, out); err != nil {
		return err
	}
	server, err := dynamolocal.Start(ctx, dynamolocal.Options{})
	if err != nil {
		return err
	}
	defer server.Close()
	s, err := newStage(ctx, server.URL)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.makeRoom(path); err != nil {
		return err
	}
	if err := s.printMedians(path, out); err != nil {
		return err
	}
	return s.printInits(path, out)
}

// printMedians starts the functions in turns, so that what else goes on meets all of them.
func (s *stage) printMedians(path string, out io.Writer) error {
	type times struct{ asks, answers []float64 } // milliseconds
	taken := map[string]*times{}
	for range coldStarts {
		for _, name := range lambdaFunctions {
			a, err := s.start(path, name, io.Discard)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if taken[name] == nil {
				taken[name] = &times{}
			}
			taken[name].asks = append(taken[name].asks, milliseconds(a.asked.Sub(a.started)))
			taken[name].answers = append(taken[name].answers, milliseconds(a.answered.Sub(a.started)))
		}
	}
	fmt.Fprintf(out, "   median of %d, ms from exec   until it asks for work   until its first answer\n", coldStarts)
	for _, name := range lambdaFunctions {
		fmt.Fprintf(out, "     %-26s %20.1f %24.1f\n", name, median(taken[name].asks), median(taken[name].answers))
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// start starts the binary once and gives it one invocation.
func (s *stage) start(path, name string, stderr io.Writer, env ...string) (answered, error) {
	api := newRuntimeAPI(s.events[name])
	server := httptest.NewServer(api)
	defer server.Close()
	defer server.CloseClientConnections()
	var said bytes.Buffer
	cmd := exec.Command(path)
	cmd.Env = slices.Concat(s.environment(name, server.Listener.Addr().String()), env)
	cmd.Stderr = io.MultiWriter(&said, stderr)
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return answered{}, err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, when all went well
		close(exited)
	}()
	defer func() {
		_ = cmd.Process.Kill() // it may have ended
		<-exited
	}()
	select {
	case a := <-api.done:
		if a.started = started; !s.right(name, a.body) {
			return a, fmt.Errorf("its answer is %s", a.body)
		}
		return a, nil
	case <-exited:
		return answered{}, fmt.Errorf("it ends: %s", &said)
	case <-time.After(time.Minute):
		return answered{}, fmt.Errorf("it does not answer: %w", context.DeadlineExceeded)
	}
}

// lambdaArchs are those that Lambda has.
var lambdaArchs = []string{"arm64", "amd64"}

// lambdaBuild builds the Lambda binary the way it is deployed.
func lambdaBuild(ctx context.Context, path, arch string, flags ...string) error {
	args := append([]string{"build", "-tags", "lambda.norpc", "-trimpath", "-o", path}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "parley/infra/lambda")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build infra/lambda for %s: %w\n%s", arch, err, text)
	}
	return nil
}

// buildLambda builds it for all architectures, and says which one is for this machine.
func buildLambda(ctx context.Context, dir string) (sizes map[string]int64, path string, err error) {
	sizes = map[string]int64{}
	for _, arch := range lambdaArchs {
		name := filepath.Join(dir, "lambda-"+arch)
		if err := lambdaBuild(ctx, name, arch, "-ldflags", "-s -w"); err != nil {
			return nil, "", err
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, "", err
		}
		sizes[arch] = info.Size()
	}
	return sizes, filepath.Join(dir, "lambda-"+runtime.GOARCH), nil
}
