package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// builtLocal is infra/local, built once for all tests.
var builtLocal = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "parley-operate-test-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	name := filepath.Join(dir, "local")
	if text, err := exec.Command("go", "build", "-o", name, "parley/infra/local").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build infra/local: %w\n%s", err, text)
	}
	return name, nil
})

var builtIn string

func TestMain(m *testing.M) {
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// place is a running infra/local.
type place struct {
	t   *testing.T
	url string
	cmd *exec.Cmd
}

var testRegions = []string{"us-east-1", "eu-west-1"}

// startLocal starts infra/local with two regions, and waits until both are healthy.
func startLocal(t *testing.T) *place {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: it starts processes")
	}
	binary, err := builtLocal()
	if err != nil {
		t.Fatal(err)
	}
	base := freePorts(t, 1+len(testRegions))
	cmd := exec.Command(binary, "-addr", "127.0.0.1:"+strconv.Itoa(base), "-data", t.TempDir(), "-rate", "0", "-regions", strings.Join(testRegions, ","))
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() && out.Len() > 0 {
			t.Logf("infra/local printed:\n%.6000s", out.String())
		}
	})
	p := &place{t, "http://127.0.0.1:" + strconv.Itoa(base), cmd}
	for i := range testRegions {
		p.await(fmt.Sprintf("http://127.0.0.1:%d/health", base+1+i))
	}
	return p
}

func (p *place) await(url string) {
	p.t.Helper()
	eventually(p.t, url+" answers", func() bool {
		res, err := http.Get(url)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(60 * time.Second); !is(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// freePorts finds n consecutive free ports.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		base := first.Addr().(*net.TCPAddr).Port
		open := []net.Listener{first}
		for i := 1; i < n; i++ {
			if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(base+i)); err == nil {
				open = append(open, l)
			}
		}
		for _, l := range open {
			_ = l.Close()
		}
		if len(open) == n {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// said is what a command printed, and how it ended.
type said struct {
	code     int
	out, err string
}

// operate runs a command against the place.
func (p *place) operate(args ...string) said {
	return p.operateIn(p.t.Context(), args...)
}

func (p *place) operateIn(ctx context.Context, args ...string) said {
	return operate(ctx, append(args, "-url", p.url)...)
}

func operate(ctx context.Context, args ...string) said {
	var out, errOut bytes.Buffer
	code := run(ctx, args, &out, &errOut)
	return said{code, out.String(), errOut.String()}
}

// must runs a command that succeeds.
func (p *place) must(args ...string) string {
	p.t.Helper()
	s := p.operate(args...)
	if s.code != 0 {
		p.t.Fatalf("operate %s: %d\n%s%s", strings.Join(args, " "), s.code, s.out, s.err)
	}
	return s.out
}

// api sends a request to infra/local as a user.
func (p *place) api(user, method, path string, body, into any) int {
	p.t.Helper()
	var answer struct{ Token string }
	s := &session{ctx: p.t.Context(), client: http.DefaultClient}
	if err := s.do(s.ctx, request{method: "POST", url: p.url + "/local/token", body: map[string]string{"user": user}, into: &answer}); err != nil {
		p.t.Fatal(err)
	}
	s.token = answer.Token
	var raw json.RawMessage
	err := s.do(s.ctx, request{method: method, url: p.url + path, body: body, into: &raw, attempts: 1})
	if no, is := err.(*problem); is {
		return no.Status
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			p.t.Fatal(err)
		}
	}
	return http.StatusOK
}
