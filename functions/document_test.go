package functions_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"parley/functions/api"
)

// document is an OpenAPI document, as far as these tests read it.
type document struct {
	parts
	succeeded map[string]bool // by operation id
}

type parts struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*schema }
}

type operation struct {
	OperationID string
	Summary     string
	Parameters  []struct{ Name, In string }
	RequestBody *struct {
		Required bool
		Content  map[string]media
	}
	Responses map[string]response
	Security  []map[string][]string
}

type response struct {
	Description string
	Headers     map[string]any
	Content     map[string]media
}

type media struct{ Schema *schema }

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Properties           map[string]*schema
	Required             []string
	Items                *schema
	AdditionalProperties any
	MaxLength            *int
}

// documents are those read before, by whether rates are limited: they differ in nothing else,
// and it takes a while to make one.
var documents sync.Map

func readDocument(t testing.TB, a *api.API, limited bool) *document {
	t.Helper()
	if d, ok := documents.Load(limited); ok {
		return &document{d.(*document).parts, map[string]bool{}}
	}
	text, err := a.OpenAPI()
	must(t, err)
	d := &document{succeeded: map[string]bool{}}
	must(t, json.Unmarshal(text, &d.parts))
	documents.Store(limited, d)
	return d
}

// find returns the operation that serves a method and path.
func (d *document) find(method, path string) (operation, bool) {
	if method == "HEAD" {
		method = "GET" // net/http takes one for the other, and drops the body
	}
	for template, operations := range d.Paths {
		op, ok := operations[strings.ToLower(method)]
		if ok && method == strings.ToUpper(method) && matches(template, path) {
			return op, true
		}
	}
	return operation{}, false
}

// ofChat reports whether the operations at a path are those of chat clients by HTTP: not the
// operators' ones, and not the WebSocket, which the document only describes.
func ofChat(path string) bool {
	return !strings.HasPrefix(path, "/v1/ops/") && path != "/v1/live"
}

func matches(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !(strings.HasPrefix(want[i], "{") && got[i] != "") {
			return false
		}
	}
	return true
}

// check holds an answer against what the document says of its operation.
func (d *document) check(op operation, a *answer) error {
	declared, ok := op.Responses[strconv.Itoa(a.status)]
	if !ok {
		return fmt.Errorf("%s does not declare the status", op.OperationID)
	}
	for name := range declared.Headers {
		if a.header.Get(name) == "" {
			return fmt.Errorf("the declared header %s is missing", name)
		}
	}
	for name := range a.header {
		if strings.HasPrefix(name, "X-Ratelimit") && !slices.ContainsFunc(namesOf(declared.Headers), func(s string) bool { return strings.EqualFold(s, name) }) {
			return fmt.Errorf("the header %s is not declared", name)
		}
	}
	content, ok := declared.Content[a.header.Get("Content-Type")]
	if !ok {
		return fmt.Errorf("the content type is %q", a.header.Get("Content-Type"))
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		return err
	}
	return d.fits("body", content.Schema, v)
}

// fits says where a value departs from its schema.
func (d *document) fits(where string, s *schema, v any) error {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s = d.Components.Schemas[name]
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s: %s is missing", where, name)
			}
		}
		for name, value := range v {
			property := s.Properties[name]
			if property == nil {
				if len(s.Properties) == 0 && s.AdditionalProperties == true { // any object
					continue
				}
				if text, err := json.Marshal(s.AdditionalProperties); err != nil || string(text) == "true" {
					return fmt.Errorf("%s: %s is not documented", where, name)
				}
				continue // a map
			}
			if err := d.fits(where+"."+name, property, value); err != nil {
				return err
			}
		}
	case []any:
		for i, value := range v {
			if err := d.fits(where+"["+strconv.Itoa(i)+"]", s.Items, value); err != nil {
				return err
			}
		}
	}
	if got := kindOf(v); !s.allows(got) {
		return fmt.Errorf("%s is %s, documented as %v", where, got, s.Type)
	}
	return nil
}

func (s *schema) allows(kind string) bool {
	if s.Type == kind || s.Type == "number" && kind == "integer" {
		return true
	}
	list, _ := s.Type.([]any)
	return slices.Contains(list, any(kind))
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		return "integer"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return fmt.Sprintf("%T", v)
	}
}

func namesOf[V any](m map[string]V) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// The document is one that a stranger can work with.
func TestDocument(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	if r.doc.OpenAPI != "3.1.0" {
		t.Errorf("the version is %q", r.doc.OpenAPI)
	}
	ids, problems := map[string]bool{}, map[string]bool{}
	for path, operations := range r.doc.Paths {
		if !ofChat(path) {
			continue
		}
		for method, op := range operations {
			if ids[op.OperationID] {
				t.Errorf("two operations are called %s", op.OperationID)
			}
			ids[op.OperationID] = true
			if op.OperationID == "" || op.Summary == "" || len(op.Security) != 1 || op.Security[0]["bearer"] == nil {
				t.Errorf("%s %s: not described: %+v", method, path, op)
			}
			checkParameters(t, method, path, op)
			checkResponses(t, method, op)
			for status, response := range op.Responses {
				if content, ok := response.Content["application/problem+json"]; ok != (status >= "400") {
					t.Errorf("%s: %s is declared as %v", op.OperationID, status, namesOf(response.Content))
				} else if ok {
					problems[content.Schema.Ref] = true
				}
			}
		}
	}
	if len(problems) != 1 {
		t.Errorf("there are several kinds of problem: %v", problems)
	}
	want := []string{
		"Accepted", "AppendResult", "Appended", "Digest", "DigestPage", "Drain", "Erasure", "ErasureRegion", "Event", "EventDigest",
		"EventDigestPage", "EventPage", "FieldError", "Generation", "HappenedEvent", "Health", "Invitation", "Job", "JobPage", "Marks", "MarksOf", "Me", "Member",
		"MemberPage", "Message", "MessageEdit", "MessagePage", "MyRoom", "NewEvents", "NewJob", "NewMember", "NewMessage",
		"NewProfile", "NewRoom", "Params", "Parked", "ParkedChange", "ParkedOutcome", "ParkedPage", "Problem", "ReadMarker", "Refusal",
		"RoleChange", "Room", "RoomChange", "RoomPage", "SharedID", "Status", "SyncPage", "UnreadMarker", "Unsealed", "User",
	}
	if got := namesOf(r.doc.Components.Schemas); !slices.Equal(got, want) {
		t.Errorf("the schemas are called\n%v, want\n%v", got, want)
	}
	for name, s := range r.doc.Components.Schemas {
		request := strings.HasPrefix(name, "New") || strings.HasSuffix(name, "Change") || name == "MessageEdit" || name == "ReadMarker" || name == "UnreadMarker" || name == "MarksOf" || name == "ParkedChange"
		if open := s.AdditionalProperties != false; open == request {
			t.Errorf("%s: additional properties are %v", name, s.AdditionalProperties)
		}
	}
	if text := r.doc.Components.Schemas["NewMessage"].Properties["text"]; text.MaxLength == nil || *text.MaxLength != 20_000 {
		t.Error("the limit of a text is not documented")
	}
}

// The socket is in the document, though another handler serves it.
func TestDocumentDescribesSocket(t *testing.T) {
	t.Parallel()
	answers := newRegion(t).doc.Paths["/v1/live"]["get"].Responses
	if _, ok := answers["101"]; !ok || answers["401"].Content["application/problem+json"].Schema == nil {
		t.Errorf("it answers %v", answers)
	}
}

// checkParameters checks that a path's parameters are declared, and no others in it; that every
// command can be given an id; and that every query can include an event.
func checkParameters(t *testing.T, method, path string, op operation) {
	t.Helper()
	var inPath, declared []string
	for _, part := range strings.Split(path, "/") {
		if strings.HasPrefix(part, "{") {
			inPath = append(inPath, strings.Trim(part, "{}"))
		}
	}
	for _, p := range op.Parameters {
		if p.In == "path" {
			declared = append(declared, p.Name)
		}
	}
	idInPath := op.OperationID == "putRoom" || op.OperationID == "putMessage"
	if op.has("header", "Idempotency-Key") == (method == "get" || idInPath) {
		t.Errorf("%s: its parameters are %v", op.OperationID, op.Parameters)
	}
	sync := op.OperationID == "sync" // tells what is there, a part at a time
	if op.has("query", "includes") != (method == "get" && !sync && op.OperationID != "getMe") || op.has("query", "limit") != (strings.HasPrefix(op.OperationID, "list") || sync) {
		t.Errorf("%s: its parameters are %v", op.OperationID, op.Parameters)
	}
	slices.Sort(inPath)
	slices.Sort(declared)
	if !slices.Equal(inPath, declared) {
		t.Errorf("%s: the path has %v, declared are %v", op.OperationID, inPath, declared)
	}
}

func (o operation) has(in, name string) bool {
	return slices.ContainsFunc(o.Parameters, func(p struct{ Name, In string }) bool { return p.In == in && p.Name == name })
}

// checkResponses checks that an operation declares what all of its kind may answer.
func checkResponses(t *testing.T, method string, op operation) {
	t.Helper()
	want := []string{"200", "401", "422", "500", "503"}
	if method != "get" {
		want = append(want, "403", "409", "429")
	}
	if op.RequestBody != nil {
		want = append(want, "400", "408", "413", "415")
	}
	for _, status := range want {
		if _, ok := op.Responses[status]; !ok {
			t.Errorf("%s does not declare %s", op.OperationID, status)
		}
	}
}

func TestServeDocument(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	want, err := r.api.OpenAPI()
	must(t, err)
	nobody := r.as("nobody")
	nobody.token = ""
	for range 2 {
		a := nobody.get("/openapi.json")
		if a.want(200); string(a.body) != string(want) || a.header.Get("Content-Type") != "application/openapi+json" {
			t.Errorf("served as %s with %d bytes, want %d", a.header.Get("Content-Type"), len(a.body), len(want))
		}
	}
}
