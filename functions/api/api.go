// Package api is what the HTTP functions have in common: one table of operations with its OpenAPI
// document, bearer tokens, rate limits, the form of errors and answers, and the rule of who may see a
// room.
package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"parley/functions/wire"
)

// Options is what an API needs.
type Options struct {
	Region string // named in the header Parley-Region of every answer
	Auth   *Auth  // verifies bearer tokens
	Quota  *Quota // of each user; nil: no limits
	Logger *slog.Logger
	Now    func() time.Time // time.Now if nil
}

// API is a set of HTTP operations. Register operations with [Query] and [Command], then serve
// its Handler.
type API struct {
	options  Options
	mux      *http.ServeMux
	huma     huma.API
	document func() ([]byte, error) // made once, when all operations are registered
}

// New returns an API without operations but GET /openapi.json.
func New(o Options) *API {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Quota == nil {
		o.Quota = NewQuota(0)
	}
	a := &API{options: o, mux: http.NewServeMux()}
	a.huma = humago.New(a.mux, config())
	a.Describe(reflect.TypeFor[wire.EventData](), reflect.TypeFor[eventData]())
	a.huma.UseMiddleware(a.authenticate)
	a.document = sync.OnceValues(a.OpenAPI)
	a.mux.HandleFunc("GET /openapi.json", a.serveDocument)
	a.mux.HandleFunc("/", a.unrouted)
	return a
}

func config() huma.Config {
	config := huma.DefaultConfig("Parley", "1")
	config.Info.Description = "A chat backend on a log of immutable events. " +
		"Lists are oldest first. Times are RFC 3339, ids are ULIDs: 26 characters, stored in upper case. " +
		"A command retried under the same id, in any region, at any time, happens once. " +
		"Errors are application/problem+json: branch on `code`; where `retryable` is true the same request may succeed later. " +
		"A body has at most 65536 bytes; a user id 1 to 120 characters of A-Z a-z 0-9 . _ -. " +
		"A user id is the claim `sub` of the token; any other byte of it is written as ~ and two hex digits: auth0|5f7c is the user auth0~7C5f7c."
	config.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
	}
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema in answers
	config.RejectUnknownQueryParameters = true
	config.AllowAdditionalPropertiesByDefault = true // of answers: they may get more fields
	config.Formats = map[string]huma.Format{
		mediaType: {Marshal: marshal, Unmarshal: unmarshalBody},
		"json":    {Marshal: marshal, Unmarshal: unmarshalBody}, // its key for application/problem+json
	}
	config.Transformers = []huma.Transformer{func(ctx huma.Context, _ string, v any) (any, error) {
		if p, ok := v.(*wire.Problem); ok {
			return p.Named(requestID(ctx.Context())), nil
		}
		return v, nil
	}}
	return config
}

func marshal(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Handler serves the operations.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serve) }

// serve gives each request an id and turns a panic into an answer.
func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	id := strconv.FormatUint(rand.Uint64(), 36)
	h := w.Header()
	h["X-Request-Id"] = []string{id}
	h["Parley-Region"] = []string{a.options.Region}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cache-Control"] = []string{"no-store"}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { // net/http compares with == too
				panic(p)
			}
			a.options.Logger.ErrorContext(r.Context(), "panic in a handler", "request_id", id, "stack", string(debug.Stack()))
			writeProblem(w, internal(), id)
		}
	}()
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
	if p := r.URL.EscapedPath(); !strings.HasPrefix(p, "/") || p != path.Clean(p) { // the mux would redirect
		writeProblem(w, noSuchPath(), id)
		return
	}
	r.Header.Del("Accept") // the answer is always JSON
	a.mux.ServeHTTP(w, r)
}

type requestKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// unrouted answers for paths and methods that have no operation.
func (a *API) unrouted(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		probe := r.Clone(r.Context())
		probe.Method = method
		if _, pattern := a.mux.Handler(probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	p := noSuchPath()
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p = &wire.Problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Detail: "method not allowed at this path; use " + strings.Join(allowed, " or ")}
	}
	writeProblem(w, p, requestID(r.Context()))
}

func noSuchPath() *wire.Problem {
	return Fail(http.StatusNotFound, "no_such_path", "no operation has this path; GET /openapi.json lists all operations")
}

// writeProblem answers with a problem outside of an operation.
func writeProblem(w http.ResponseWriter, p *wire.Problem, requestID string) {
	w.Header().Set("Content-Type", p.ContentType(""))
	for key, values := range p.GetHeaders() {
		w.Header()[key] = values
	}
	w.WriteHeader(p.Status)
	_ = marshal(w, p.Named(requestID)) // an error: the client has gone
}

// refuse answers with a problem from a middleware.
func (a *API) refuse(ctx huma.Context, p *wire.Problem) {
	for key, values := range p.GetHeaders() {
		ctx.SetHeader(key, values[0])
	}
	_ = huma.WriteErr(a.huma, ctx, p.Status, p.Detail, p) // the client has gone
}
