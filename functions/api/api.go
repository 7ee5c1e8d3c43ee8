// Package api is what the HTTP functions have in common: one table of operations with its
// OpenAPI document, bearer tokens, rates, the form of errors and of answers, and the rule of who
// may see a room.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// MaxBodyBytes is the largest request body.
const MaxBodyBytes = 64 << 10

// Options is what an API needs.
type Options struct {
	Region string // named in the header Parley-Region of every answer
	Auth   *Auth  // judges bearer tokens
	Rate   Rate   // of commands
	Logger *slog.Logger
}

// API is a set of HTTP operations. Register operations with [Query] and [Command], then serve
// its Handler.
type API struct {
	options Options
	rates   *rates
	mux     *http.ServeMux
	huma    huma.API
}

// New returns an API without operations but GET /openapi.json.
func New(o Options) *API {
	a := &API{options: o, rates: newRates(o.Rate), mux: http.NewServeMux()}
	a.huma = humago.New(a.mux, config())
	a.huma.UseMiddleware(a.authenticate)
	a.mux.HandleFunc("/", a.unrouted)
	return a
}

func config() huma.Config {
	config := huma.DefaultConfig("Parley", "1")
	config.Info.Description = "A chat backend on a log of immutable events. " +
		"Lists are oldest first. Times are RFC 3339, ids are ULIDs. " +
		"A command sent again under the same id, to any region, at any time, happens once."
	config.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
	}
	config.DocsPath, config.SchemasPath = "", ""
	config.CreateHooks = nil // no $schema in answers
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{
		"application/json": {Marshal: marshal, Unmarshal: unmarshal},
		"json":             {Marshal: marshal, Unmarshal: unmarshal},
	}
	config.Transformers = []huma.Transformer{func(ctx huma.Context, _ string, v any) (any, error) {
		if p, ok := v.(*Problem); ok {
			return p.withRequest(requestID(ctx.Context())), nil
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

// unmarshal refuses what encoding/json would silently replace: bytes that are not UTF-8.
func unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("the body must be valid UTF-8")
	}
	return json.Unmarshal(data, v)
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
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(p)
			}
			a.options.Logger.ErrorContext(r.Context(), "panic in a handler", "request_id", id, "stack", string(debug.Stack()))
			internal().write(w, id)
		}
	}()
	a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, id)))
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
	p := &Problem{Status: http.StatusNotFound, Code: "no_such_path", Detail: "nothing is served at this path; GET /openapi.json lists what is"}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p = &Problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Detail: "use " + strings.Join(allowed, " or ")}
	}
	p.write(w, requestID(r.Context()))
}

// Operation describes one operation for [Query] and [Command].
type Operation struct {
	ID      string // "postMessage"
	Method  string
	Path    string
	Tag     string
	Summary string
	Detail  string // what a client must know beyond the summary
	Codes   []int  // the statuses of its errors, beside those every operation may have
}

// Query registers an operation that changes nothing.
func Query[I, O any](a *API, op Operation, handler func(context.Context, *I) (*O, error)) {
	register(a, op, nil, handler)
}

// Command registers an operation that appends an event. It counts against its caller's rate.
func Command[I, O any](a *API, op Operation, handler func(context.Context, *I) (*O, error)) {
	op.Codes = append(op.Codes, http.StatusTooManyRequests)
	register(a, op, huma.Middlewares{a.limit}, handler)
}

func register[I, O any](a *API, op Operation, middlewares huma.Middlewares, handler func(context.Context, *I) (*O, error)) {
	codes := append([]int{http.StatusUnauthorized, http.StatusUnprocessableEntity, http.StatusServiceUnavailable}, op.Codes...)
	slices.Sort(codes)
	huma.Register(a.huma, huma.Operation{
		OperationID:  op.ID,
		Method:       op.Method,
		Path:         op.Path,
		Summary:      op.Summary,
		Description:  op.Detail,
		Tags:         []string{op.Tag},
		Errors:       slices.Compact(codes),
		MaxBodyBytes: MaxBodyBytes,
		Security:     []map[string][]string{{"bearer": {}}},
		Middlewares:  middlewares,
	}, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err == nil {
			return out, nil
		}
		p := problem(err)
		if p.Status >= http.StatusInternalServerError {
			a.options.Logger.ErrorContext(ctx, "request failed", "operation", op.ID, "request_id", requestID(ctx), "error", err)
		}
		return nil, p
	})
}

// write answers with a problem outside of an operation.
func (p *Problem) write(w http.ResponseWriter, request string) {
	w.Header().Set("Content-Type", "application/problem+json")
	for key, values := range p.GetHeaders() {
		w.Header()[key] = values
	}
	w.WriteHeader(p.Status)
	_ = marshal(w, p.withRequest(request)) // the client has gone
}

// refuse answers with a problem from a middleware.
func (a *API) refuse(ctx huma.Context, p *Problem) {
	for key, values := range p.GetHeaders() {
		ctx.SetHeader(key, values[0])
	}
	_ = huma.WriteErr(a.huma, ctx, p.Status, p.Detail, p) // the client has gone
}

// OpenAPI returns the OpenAPI 3.1 document of the operations registered so far, as JSON.
func (a *API) OpenAPI() ([]byte, error) {
	text, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return text, nil
}
