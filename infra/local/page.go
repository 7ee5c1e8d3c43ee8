package main

import (
	"net/http"
	"net/url"
	"strings"

	"parley/infra/local/web"
)

// The page comes from the global endpoint, and could send everything there: requests are passed
// on to a healthy region, and the header Parley-Region says which. But whoever wants to see two
// people talk in two regions must be able to choose one, and a client that knows the regions'
// own addresses goes on when the global name does not. So the page may use these, too, as on AWS,
// where API Gateway answers for it: allowPage does that here, for this one page only.

// pageHandler serves the page to browsers; to curl and the like "/" is the welcome in plain text.
func (s *server) pageHandler() http.Handler {
	origins := []string{s.url(0), "http://localhost:" + s.port()}
	for i := range s.cluster.regions {
		origins = append(origins, s.url(1+i))
	}
	page := web.Handler(origins...)
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			page.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(s.welcome())) // the client has gone
	})
	return mux
}

// port is where the global endpoint listens.
func (s *server) port() string {
	u, err := url.Parse(s.url(0))
	if err != nil {
		return ""
	}
	return u.Port()
}

// allowPage lets the page use a region at its own address. Pages of any other origin get no
// permission, and so their browsers keep the answers from them.
func (s *server) allowPage(next http.Handler) http.Handler {
	port := s.port()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		w.Header().Add("Vary", "Origin")
		if !isPage(origin, port) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Parley-Region, Retry-After, X-Request-Id")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		r.Header.Del("Origin") // a socket is refused to other origins; this one has been judged
		next.ServeHTTP(w, r)
	})
}

// isPage reports whether an origin is that of the page: a name of this machine to itself, with
// the port of the global endpoint.
func isPage(origin, port string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "http" && origin == "http://"+u.Host && u.Port() == port && isLoopback(u.Host)
}

// counts answers GET /local/counts: how many entries were ever put on each region's bus. Whoever
// asks twice knows how many events go by.
func (c *control) counts(w http.ResponseWriter, _ *http.Request) {
	counts := map[string]uint64{}
	for _, r := range c.cluster.regions {
		counts[r.name] = r.bus.total()
	}
	answer(w, map[string]map[string]uint64{"counts": counts})
}

// total is how many entries were ever put on the bus.
func (b *bus) total() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}
