package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// target is where a load goes: requests that are sent over and over, each over a connection of
// its own.
type target struct {
	url   string // of the POST
	token string
	text  string
}

// load sends to the targets for a while, connection i to target i modulo their number, and
// returns how many requests a second were answered 201. The client is as lean as can be, so that
// the servers under comparison get the machine: it writes the same bytes again and reads the
// answer's head and length.
func load(ctx context.Context, conns int, d time.Duration, targets []target) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var accepted atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, conns)
	start := time.Now()
	for i := range conns {
		wg.Go(func() {
			n, err := sendAll(ctx, targets[i%len(targets)])
			accepted.Add(n)
			errs[i] = err
		})
	}
	wg.Wait()
	return float64(accepted.Load()) / time.Since(start).Seconds(), errors.Join(errs...)
}

// sendAll sends one request after the other until ctx ends.
func sendAll(ctx context.Context, t target) (int64, error) {
	u, err := url.Parse(t.url)
	if err != nil {
		return 0, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	body := fmt.Sprintf(`{"text":%q}`, t.text)
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		u.Path, u.Host, t.token, len(body), body)
	in := bufio.NewReader(conn)
	var n int64
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			return n, err
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return n, err
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return n, err
		}
		if res.StatusCode != http.StatusCreated {
			return n, fmt.Errorf("status %d under load", res.StatusCode)
		}
		n++
	}
	return n, nil
}
