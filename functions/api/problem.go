package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"parley/events"
	"parley/events/keys"
	"parley/projections"
)

// Problem is an error as clients get it: application/problem+json (RFC 9457) with a stable code
// to branch on.
type Problem struct {
	Type      string       `json:"type" doc:"A name for the kind of problem: urn:parley: and the code."`
	Title     string       `json:"title" doc:"The HTTP status in words."`
	Status    int          `json:"status" doc:"The HTTP status."`
	Code      string       `json:"code" doc:"Stable; branch on this." example:"room_not_found"`
	Detail    string       `json:"detail" doc:"What is wrong and what to do, for people."`
	RequestID string       `json:"request_id" doc:"Names the request in the server's log."`
	Retryable bool         `json:"retryable" doc:"The same request may succeed later."`
	Errors    []FieldError `json:"errors,omitempty" doc:"The fields at fault."`
	Time      *time.Time   `json:"time,omitempty" doc:"The server's time, where the time in an id is at fault."`
	ID        string       `json:"id,omitempty" doc:"The id the server chose, where the outcome is unknown: send the command again under it."`
}

// FieldError names a field and says what is allowed in it.
type FieldError struct {
	Field  string `json:"field" example:"text"`
	Reason string `json:"reason" example:"must have 1 to 20000 bytes of valid UTF-8"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements huma.HeadersError: 429 and 503 say when to come again.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	switch {
	case p.Status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="parley"`)
	case p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable || p.Retryable:
		h.Set("Retry-After", "1")
	}
	return h
}

func (p *Problem) withRequest(id string) *Problem {
	out := p.Named()
	out.RequestID = id
	return out
}

// Named returns the problem with its type and title, which follow from its code and status.
func (p *Problem) Named() *Problem {
	out := *p
	out.Type, out.Title = "urn:parley:"+p.Code, http.StatusText(p.Status)
	return &out
}

// Fail makes a problem that the same request will not overcome.
func Fail(status int, code, detail string) *Problem {
	return &Problem{Status: status, Code: code, Detail: detail}
}

// NotYet makes a problem that may pass by itself: something that may have happened in another
// region is not known in this one.
func NotYet(code, detail string) *Problem {
	return &Problem{Status: http.StatusNotFound, Code: code, Detail: detail, Retryable: true}
}

func internal() *Problem {
	return &Problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "this is a fault of the server; it has been logged under the request id", Retryable: true}
}

// sentinels says which answer each error of the log, the clock and the views becomes.
var sentinels = []struct {
	err     error
	problem Problem
}{
	{events.ErrConflict, Problem{Status: 409, Code: "id_taken", Detail: "this id is taken by an event with other content; mint another id"}},
	{events.ErrNotFound, Problem{Status: 404, Code: "not_found", Detail: "no such event", Retryable: true}},
	{events.ErrThrottled, Problem{Status: 503, Code: "throttled", Detail: "the log is over its limit; nothing was stored; send it again", Retryable: true}},
	{events.ErrUnknownOutcome, Problem{Status: 503, Code: "unknown_outcome", Detail: "it may or may not have been stored; send it again under the same id", Retryable: true}},
	{events.ErrUnavailable, Problem{Status: 503, Code: "unavailable", Detail: "this region cannot store anything now; nothing was stored; send it again under the same id, to another region", Retryable: true}},
	{projections.ErrUnavailable, Problem{Status: 503, Code: "views_unavailable", Detail: "the views of this region cannot be reached now; send it again, a command under the same id: it may have been stored", Retryable: true}},
	{events.ErrIDNotYours, Problem{Status: 403, Code: "id_not_yours", Detail: "of the id's 80 random bits the first 32 must be the first 32 bits of the SHA-256 of your user id"}},
	{events.ErrIDFuture, Problem{Status: 422, Code: "id_in_future", Detail: "the time in the id is too far ahead; set your clock by the time given here and mint another"}},
	{events.ErrIDPast, Problem{Status: 422, Code: "id_in_past", Detail: "the time in the id is too long ago and nothing is stored under it; mint another"}},
	{events.ErrIDOrder, Problem{Status: 422, Code: "id_order", Detail: "the id must sort after `after` and after the message it refers to; mint it after them"}},
	{keys.ErrErased, Problem{Status: 403, Code: "user_erased", Detail: "the user was erased; nothing can be written in her name any more"}},
	{keys.ErrMissing, Problem{Status: 503, Code: "key_not_here", Detail: "the key of something that was written in another region is on its way to this one; ask again, or another region", Retryable: true}},
	{context.DeadlineExceeded, Problem{Status: 503, Code: "timeout", Detail: "it took too long; send it again under the same id", Retryable: true}},
	{context.Canceled, Problem{Status: 503, Code: "canceled", Detail: "the request was given up; send it again under the same id", Retryable: true}},
}

// ProblemOf turns any error into an answer; now is the server's time. What is no fault of the
// client's, nor one that is known, is code "internal" and should be logged.
func ProblemOf(err error, now time.Time) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var field *FieldError
	if errors.As(err, &field) {
		return invalidField(*field)
	}
	if invalid := events.IsInvalid(err); invalid != nil {
		return invalidField(FieldError{invalid.Field, invalid.Reason})
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			p := s.problem
			if p.Code == "id_in_future" || p.Code == "id_in_past" {
				now = now.UTC()
				p.Time = &now
			}
			return &p
		}
	}
	return internal()
}

func invalidField(fields ...FieldError) *Problem {
	var all []string
	for _, f := range fields {
		all = append(all, f.Field+" "+f.Reason)
	}
	return &Problem{Status: http.StatusUnprocessableEntity, Code: "invalid_field", Detail: strings.Join(all, "; "), Errors: fields}
}

// huma makes its own errors, of malformed requests, through this variable of its package, and
// has another for whether lists may be null: ours are empty instead.
func init() {
	huma.NewError = humaError
	huma.DefaultArrayNullable = false
}

func humaError(status int, msg string, errs ...error) huma.StatusError {
	var fields []FieldError
	for _, err := range errs {
		var p *Problem
		var detail huma.ErrorDetailer
		switch {
		case errors.As(err, &p):
			return p
		case errors.As(err, &detail):
			fields = append(fields, detailOf(detail.ErrorDetail()))
		}
	}
	switch {
	case slices.Contains(fields, notOneObject), status == http.StatusBadRequest: // nothing in the body at all
		p := invalidField(notOneObject)
		p.Status, p.Code = http.StatusBadRequest, "malformed_body"
		return p
	case status == http.StatusInternalServerError: // the body broke off
		return &Problem{Status: http.StatusBadRequest, Code: "malformed_body", Detail: "the body ended early", Retryable: true}
	case status == http.StatusRequestEntityTooLarge:
		most := MaxBodyBytes
		if _, err := fmt.Sscanf(msg, "request body is too large limit=%d bytes", &most); err == nil {
			most-- // see register
		}
		return Fail(status, "body_too_large", "the body may have "+strconv.Itoa(most)+" bytes")
	case status == http.StatusRequestTimeout:
		return &Problem{Status: status, Code: "request_timeout", Detail: "the body took too long to come", Retryable: true}
	case status == http.StatusUnprocessableEntity:
		return invalidField(fields...)
	default:
		return &Problem{Status: status, Code: "http_" + strconv.Itoa(status), Detail: msg, Retryable: status >= 500}
	}
}

// detailOf reads what huma found wrong. Its locations are like "query.limit" or "body".
func detailOf(d *huma.ErrorDetail) FieldError {
	where, name, _ := strings.Cut(d.Location, ".")
	if where == "body" {
		return fieldOf(d.Message)
	}
	return FieldError{shown(name), d.Message}
}
