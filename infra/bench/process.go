package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// binaries are the programs that are compared, built for this run.
type binaries struct {
	dir   string
	local string // infra/local
	self  string // this program, for its bare handler
}

func build(ctx context.Context) (*binaries, error) {
	dir, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &binaries{dir, filepath.Join(dir, "local"), self}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.local, "parley/infra/local")
	if text, err := cmd.CombinedOutput(); err != nil {
		b.remove()
		return nil, fmt.Errorf("build infra/local: %w\n%s", err, text)
	}
	return b, nil
}

func (b *binaries) remove() { _ = os.RemoveAll(b.dir) }

// process is a server under test.
type process struct {
	cmd  *exec.Cmd
	base int // its first port
}

// startLocal starts infra/local with some regions on a data directory and waits until all of
// them are healthy.
func (b *binaries) startLocal(ctx context.Context, data string, regions int, args ...string) (*process, error) {
	names := []string{"us-east-1", "eu-west-1", "ap-southeast-2"}[:regions]
	base, err := freePorts(regions + 1)
	if err != nil {
		return nil, err
	}
	args = append([]string{
		"-addr", "127.0.0.1:" + strconv.Itoa(base), "-data", data,
		"-regions", strings.Join(names, ","), "-rate", "0",
	}, args...)
	p, err := start(ctx, base, b.local, args...)
	if err != nil {
		return nil, err
	}
	for i := range regions {
		if err := p.await(ctx, fmt.Sprintf("http://127.0.0.1:%d/health", base+1+i)); err != nil {
			p.stop()
			return nil, err
		}
	}
	return p, nil
}

// startBare starts the bare handler.
func (b *binaries) startBare(ctx context.Context, data string) (*process, error) {
	base, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(base)
	p, err := start(ctx, base, b.self, "-bare", addr, "-dir", data)
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, "http://"+addr+"/health"); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func start(ctx context.Context, base int, name string, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(name), err)
	}
	return &process{cmd, base}, nil
}

func (p *process) global() string { return fmt.Sprintf("http://127.0.0.1:%d", p.base) }

// await waits until a URL answers 200.
func (p *process) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	return poll(ctx, 20*time.Millisecond, func() (bool, error) {
		res, err := http.Get(url) // it answers at once or refuses
		if err != nil {
			return false, nil // not up yet
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK, nil
	})
}

// stop ends the process as Ctrl-C would, and waits.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	_ = p.cmd.Wait()
}

// usage returns the CPU time the process has taken and its resident memory.
func (p *process) usage() (cpu time.Duration, rss int64, err error) {
	dir := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return 0, 0, errors.New("CPU time and memory of a process can only be read on Linux")
	}
	// proc(5): behind the name in parentheses, utime and stime are fields 12 and 13, in ticks
	// of 1/100 s.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	pages, err := os.ReadFile(dir + "statm")
	if err != nil {
		return 0, 0, err
	}
	resident, _ := strconv.ParseInt(strings.Fields(string(pages))[1], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, resident * int64(os.Getpagesize()), nil
}

// freePorts finds n ports in a row that nobody listens on.
func freePorts(n int) (int, error) {
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		base := first.Addr().(*net.TCPAddr).Port
		open := []net.Listener{first}
		for i := 1; i < n; i++ {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(base+i))
			if err != nil {
				break
			}
			open = append(open, l)
		}
		for _, l := range open {
			_ = l.Close()
		}
		if len(open) == n {
			return base, nil
		}
	}
	return 0, fmt.Errorf("find %d free ports: %w", n, syscall.EADDRINUSE)
}

// poll calls done at intervals until it says so, fails, or ctx ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
