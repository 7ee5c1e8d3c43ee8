package main

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// faultyProxy passes TCP connections on to an address, as badly as it is told.
type faultyProxy struct {
	listener net.Listener
	target   string
	working  sync.WaitGroup

	mu      sync.Mutex
	fault   faulty
	changed chan struct{} // closed and made anew when fault changes
	conns   map[net.Conn]bool
}

// faulty is what is wrong with a proxy.
type faulty string

const (
	none     faulty = "none"
	refused  faulty = "refused"   // connections are cut, new ones too
	stalled  faulty = "stalled"   // nothing passes, and no connection ends; it passes later
	halfOpen faulty = "half open" // what the server says is lost, for good
	late     faulty = "late"      // everything passes later
)

func startProxy(t *testing.T, url string) *faultyProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faultyProxy{listener: l, target: url[len("http://"):], fault: none, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.working.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.set(refused)
		p.working.Wait()
	})
	return p
}

func (p *faultyProxy) url() string { return "http://" + p.listener.Addr().String() }

// set makes something be wrong from now on; refused cuts all connections.
func (p *faultyProxy) set(f faulty) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
	if f == refused {
		p.cutAll()
	}
}

// cut cuts all connections; new ones are taken.
func (p *faultyProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAll()
}

func (p *faultyProxy) cutAll() {
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *faultyProxy) now() (faulty, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.changed
}

func (p *faultyProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if f, _ := p.now(); f == refused {
			_ = client.Close()
			continue
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.working.Go(func() { p.pass(client, server, false) })
		p.working.Go(func() { p.pass(server, client, true) })
	}
}

// pass passes on what comes from one side until a side is closed.
func (p *faultyProxy) pass(from, to net.Conn, fromServer bool) {
	defer func() {
		_, _ = from.Close(), to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
	}()
	lost := false
	buffer := make([]byte, 4<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		f, changed := p.now()
		for f == stalled {
			<-changed
			f, changed = p.now()
		}
		if f == late {
			time.Sleep(rand.N(20 * time.Millisecond))
		}
		if lost = lost || f == halfOpen && fromServer; lost {
			continue // the rest makes no sense any more
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
