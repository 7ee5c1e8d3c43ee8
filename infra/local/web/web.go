// Package web is the page: a chat client of static files without a build step. It can be served from
// here, or the folder site can be copied to any web server of an origin that the API allows.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed site
var site embed.FS

// types are the media types of the files by extension, independent of the machine's settings. Files
// of other types are not served.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".json": "application/json",
	".svg":  "image/svg+xml",
}

// file is a file of the page, ready to be served.
type file struct {
	body []byte
	kind string
	tag  string // ETag of this content: a browser need not fetch it again
}

// Handler serves the page: index.html at "/", its files below "/page/". The page may connect to its own
// origin and to the given ones, such as "http://127.0.0.1:8081"; it loads and runs nothing from
// elsewhere, and no other page may frame it.
func Handler(origins ...string) http.Handler {
	files, policy := load(), Policy(origins...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		f, ok := files[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET", http.StatusMethodNotAllowed)
			return
		}
		f.serve(w, r, policy)
	})
}

func (f file) serve(w http.ResponseWriter, r *http.Request, policy string) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // revalidate each time
	h.Set("ETag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(f.body) // the client has gone
}

// Policy is the content security policy of the page when its API is at the given origins, in addition
// to its own.
func Policy(origins ...string) string {
	connect := []string{"'self'"}
	for _, origin := range origins {
		connect = append(connect, origin, "ws"+strings.TrimPrefix(origin, "http"))
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self'",
		"connect-src " + strings.Join(connect, " "),
		"form-action 'none'",
		"base-uri 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
	}, "; ")
}

// load reads all files. It panics on a file of an unknown type, which is a mistake in this package.
func load() map[string]file {
	files := map[string]file{}
	err := fs.WalkDir(site, "site", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		kind, ok := types[path.Ext(name)]
		if !ok {
			return fmt.Errorf("%s has an unknown file type", name)
		}
		body, err := site.ReadFile(name)
		sum := sha256.Sum256(body)
		files[strings.TrimPrefix(name, "site/")] = file{body, kind, `"` + hex.EncodeToString(sum[:8]) + `"`}
		return err
	})
	if err != nil {
		panic(err)
	}
	return files
}
