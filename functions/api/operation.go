package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// Operation describes one operation for [Query] and [Command].
type Operation struct {
	ID      string // "postMessage"
	Method  string
	Path    string
	Tag     string
	Summary string
	Detail  string // what a client must know beyond the summary
	Codes   []int  // the statuses of its errors, beside those every operation may have
	Creates bool   // it answers 201, and 200 to a repeat

	Operator bool // callers without [ScopeOperator] are answered 403 operator_only
	MaxBody  int  // bytes; 0: [MaxBodyBytes]
	command  bool
}

// Query registers an operation that changes nothing. What it reads counts against its caller's quota. Its
// parameters are the tagged fields of I, and of
// structs embedded in I if their names are exported: huma ignores all others.
func Query[I, O any](a *API, op Operation, handler func(context.Context, *I) (*O, error)) {
	if op.Operator {
		register(a, op, nil, handler)
		return
	}
	op.Codes = append(slices.Clone(op.Codes), http.StatusTooManyRequests)
	register(a, op, huma.Middlewares{a.meter}, handler)
}

// Command registers an operation that appends an event. It counts against its caller's rate.
func Command[I, O any](a *API, op Operation, handler func(context.Context, *I) (*O, error)) {
	op.Codes = append(slices.Clone(op.Codes), http.StatusForbidden, http.StatusConflict, http.StatusTooManyRequests)
	op.command = true
	middlewares := huma.Middlewares{a.limit, a.wantJSON}
	if !op.Operator {
		middlewares = huma.Middlewares{a.limit, a.meter, a.wantJSON}
	}
	register(a, op, middlewares, handler)
}

func register[I, O any](a *API, op Operation, middlewares huma.Middlewares, handler func(context.Context, *I) (*O, error)) {
	if op.Operator {
		op.Codes = append(slices.Clone(op.Codes), http.StatusForbidden)
		middlewares = append(huma.Middlewares{a.operatorOnly}, middlewares...)
	}
	described := huma.Operation{
		OperationID:  op.ID,
		Method:       op.Method,
		Path:         op.Path,
		Summary:      op.Summary,
		Description:  op.Detail,
		Tags:         []string{op.Tag},
		Errors:       op.Codes,
		MaxBodyBytes: int64(cmp.Or(op.MaxBody, MaxBodyBytes)) + 1, // where huma begins to refuse
		Security:     []map[string][]string{{"bearer": {}}},
		Middlewares:  middlewares,

		SkipValidateBody: true, // Unmarshal and the events do, with clearer reasons
	}
	described.Errors = append(described.Errors, http.StatusUnauthorized, http.StatusUnprocessableEntity,
		http.StatusInternalServerError, http.StatusServiceUnavailable)
	if takesBody[I]() {
		described.Errors = append(described.Errors, http.StatusBadRequest, http.StatusRequestTimeout,
			http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	slices.Sort(described.Errors)
	described.Errors = slices.Compact(described.Errors)
	huma.Register(a.huma, described, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err == nil {
			return out, nil
		}
		p := ProblemOf(err, a.options.Now())
		if p.Status >= http.StatusInternalServerError && ctx.Err() == nil { // not because the client has gone
			a.options.Logger.ErrorContext(ctx, "request failed", "operation", op.ID, "request_id", requestID(ctx), "error", err)
		}
		return nil, p
	})
	a.describe(op)
}

func takesBody[I any]() bool {
	_, ok := reflect.TypeFor[I]().FieldByName("Body")
	return ok
}

// describe completes what huma writes about an operation in the OpenAPI document.
func (a *API) describe(op Operation) {
	doc := a.huma.OpenAPI()
	described := doc.Paths[op.Path]
	var o *huma.Operation
	switch op.Method {
	case http.MethodGet:
		o = described.Get
	case http.MethodPost:
		o = described.Post
	case http.MethodPut:
		o = described.Put
	case http.MethodPatch:
		o = described.Patch
	case http.MethodDelete:
		o = described.Delete
	}
	if op.Creates {
		o.Responses["201"] = &huma.Response{Description: "Created", Content: o.Responses["200"].Content}
		o.Responses["200"].Description = "It had been accepted before; nothing was added"
	}
	for status, r := range o.Responses {
		r.Headers = headers(status, a.options.Quota.commands != nil && op.command)
	}
	if o.RequestBody == nil {
		return
	}
	for _, body := range o.RequestBody.Content {
		doc.Components.Schemas.SchemaFromRef(body.Schema.Ref).AdditionalProperties = false
	}
}

// headers are those of an answer with a status.
func headers(status string, limited bool) map[string]*huma.Header {
	text, number := &huma.Schema{Type: huma.TypeString}, &huma.Schema{Type: huma.TypeInteger}
	h := map[string]*huma.Header{
		"X-Request-Id":  {Description: "Names the request in the server's log.", Schema: text},
		"Parley-Region": {Description: "The region that answers.", Schema: text},
	}
	if limited && status != "401" {
		h["X-RateLimit-Limit"] = &huma.Header{Description: "Commands you may send at once after a pause.", Schema: number}
		h["X-RateLimit-Remaining"] = &huma.Header{Description: "Commands you may send at once now.", Schema: number}
		h["X-RateLimit-Reset"] = &huma.Header{Description: "Seconds until the whole burst is available again.", Schema: number}
	}
	if status == "429" || status == "503" {
		h["Retry-After"] = &huma.Header{Description: "Seconds to wait before a retry.", Schema: number}
	}
	return h
}

// OpenAPI returns the OpenAPI 3.1 document of the operations registered so far, as JSON.
func (a *API) OpenAPI() ([]byte, error) {
	text, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return text, nil
}

func (a *API) serveDocument(w http.ResponseWriter, r *http.Request) {
	text, err := a.document()
	if err != nil {
		a.options.Logger.ErrorContext(r.Context(), "no OpenAPI document", "error", err)
		writeProblem(w, internal(), requestID(r.Context()))
		return
	}
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(text) // the client has gone
}

// DescribeExternal puts an operation into the OpenAPI document that another handler serves, with
// what each status of its answers means.
func (a *API) DescribeExternal(op Operation, answers map[string]string) {
	responses := map[string]*huma.Response{}
	for status, description := range answers {
		responses[status] = &huma.Response{Description: description}
		if status >= "400" {
			schema := &huma.Schema{Ref: "#/components/schemas/Problem"}
			responses[status].Content = map[string]*huma.MediaType{"application/problem+json": {Schema: schema}}
		}
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: op.ID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Detail,
		Tags: []string{op.Tag}, Security: []map[string][]string{{"bearer": {}}}, Responses: responses,
	})
}

// Describe makes the OpenAPI document describe one type as another, which has a method Schema. It
// must be called before an operation that uses the type is registered.
func (a *API) Describe(t, as reflect.Type) {
	a.huma.OpenAPI().Components.Schemas.RegisterTypeAlias(t, as)
}
