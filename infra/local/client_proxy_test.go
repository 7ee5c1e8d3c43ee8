package main

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// faultyProxy forwards TCP connections to an address, with the fault that is set.
type faultyProxy struct {
	listener net.Listener
	target   string
	working  sync.WaitGroup

	mu      sync.Mutex
	fault   faulty
	changed chan struct{} // closed and replaced when fault changes
	conns   map[net.Conn]bool
}

// faulty is the fault of a proxy.
type faulty string

const (
	none     faulty = "none"
	refused  faulty = "refused"   // all connections are closed, new ones too
	stalled  faulty = "stalled"   // data is held back until the fault ends; connections stay open
	halfOpen faulty = "half open" // data from the server is lost for good
	late     faulty = "late"      // data is delayed
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

// set sets the fault; refused closes all connections.
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

// cut closes all connections; new ones are accepted.
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
		p.add(client, server)
		p.working.Go(func() { p.pass(client, server, false) })
		p.working.Go(func() { p.pass(server, client, true) })
	}
}

// add adds the connections on both sides, and closes them if refused was set meanwhile.
func (p *faultyProxy) add(client, server net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[client], p.conns[server] = true, true
	if p.fault == refused {
		p.cutAll()
	}
}

// pass forwards data from one side to the other until either is closed.
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
			<-time.After(rand.N(20 * time.Millisecond)) // the delay is what this proxy is for
		}
		if lost = lost || f == halfOpen && fromServer; lost {
			continue // the rest makes no sense any more
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
