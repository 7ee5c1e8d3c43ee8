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
	"parley/functions/wire"
	"parley/projections"
)

// Fail makes a problem that is not retryable.
func Fail(status int, code, detail string) *wire.Problem {
	return &wire.Problem{Status: status, Code: code, Detail: detail}
}

// NotYet makes a retryable 404: what is missing may have been created in another region and not be
// replicated to this one yet.
func NotYet(code, detail string) *wire.Problem {
	return &wire.Problem{Status: http.StatusNotFound, Code: code, Detail: detail, Retryable: true}
}

func internal() *wire.Problem {
	return &wire.Problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "internal error; it is logged under the request id; retry, a command under the same id", Retryable: true}
}

// sentinels maps each error of the log, the clock, the keys and the views to its answer.
var sentinels = []struct {
	err     error
	problem wire.Problem
}{
	{events.ErrConflict, wire.Problem{Status: 409, Code: "id_taken", Detail: "an event with this id and other content exists; mint another id"}},
	{events.ErrNotFound, wire.Problem{Status: 404, Code: "not_found", Detail: "event not found; if it is new, retry in a moment, until it has reached this region", Retryable: true}},
	{events.ErrThrottled, wire.Problem{Status: 503, Code: "throttled", Detail: "the log is throttled; nothing was stored; retry with backoff", Retryable: true}},
	{events.ErrUnknownOutcome, wire.Problem{Status: 503, Code: "unknown_outcome", Detail: "the event may or may not have been stored; retry under the same id", Retryable: true}},
	{events.ErrUnavailable, wire.Problem{Status: 503, Code: "unavailable", Detail: "this region cannot store events now; nothing was stored; retry under the same id in another region", Retryable: true}},
	{projections.ErrUnavailable, wire.Problem{Status: 503, Code: "views_unavailable", Detail: "the views of this region are unavailable; retry; a command may have been stored: retry it under the same id", Retryable: true}},
	{projections.ErrTooManyEvents, wire.Problem{Status: 422, Code: "as_of_too_far", Detail: "the next message changed after as_of, with more than 5000 events of the room in between; pass an earlier as_of, or skip the message with before or after"}},
	{events.ErrIDNotYours, wire.Problem{Status: 403, Code: "id_not_yours", Detail: "the id does not carry your mark; get it from GET /v1/me and mint another id"}},
	{events.ErrIDFuture, wire.Problem{Status: 422, Code: "id_in_future", Detail: "the time in the id is too far in the future; set your clock by `time` and mint another id"}},
	{events.ErrIDPast, wire.Problem{Status: 422, Code: "id_in_past", Detail: "the time in the id is too far in the past, and no event with this id exists; mint another id"}},
	{events.ErrIDOrder, wire.Problem{Status: 422, Code: "id_order", Detail: "the id must sort after `after`, after the message it refers to, and after the last event that set what the command changes; mint a greater one"}},
	{keys.ErrErased, wire.Problem{Status: 403, Code: "user_erased", Detail: "the user was erased: no command of this user is accepted any more, and nothing can be written for this user"}},
	{keys.ErrMissing, wire.Problem{Status: 503, Code: "key_not_here", Detail: "data key not yet replicated to this region; retry in a moment or in another region", Retryable: true}},
	{context.DeadlineExceeded, wire.Problem{Status: 503, Code: "timeout", Detail: "the request timed out; retry it, a command under the same id", Retryable: true}},
	{context.Canceled, wire.Problem{Status: 503, Code: "canceled", Detail: "the request was canceled; retry it, a command under the same id", Retryable: true}},
}

// ProblemOf turns any error into an answer; now is the server's time. An error that is neither the
// client's nor in the table has the code "internal" and should be logged.
func ProblemOf(err error, now time.Time) *wire.Problem {
	var p *wire.Problem
	if errors.As(err, &p) {
		return p
	}
	var field *wire.FieldError
	if errors.As(err, &field) {
		return invalidField(*field)
	}
	if invalid := events.IsInvalid(err); invalid != nil {
		return invalidField(fault(invalid.Field, invalid.Reason))
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

func invalidField(fields ...wire.FieldError) *wire.Problem {
	var all []string
	for _, f := range fields {
		all = append(all, f.Field+" "+f.Reason)
	}
	return &wire.Problem{Status: http.StatusUnprocessableEntity, Code: "invalid_field", Detail: strings.Join(all, "; "), Errors: fields}
}

// huma makes its own errors, for malformed requests, through a variable of its package. Another one
// decides whether lists may be null: ours are empty instead.
func init() {
	huma.NewError = humaError
	huma.DefaultArrayNullable = false
}

func humaError(status int, msg string, errs ...error) huma.StatusError {
	var fields []wire.FieldError
	for _, err := range errs {
		var p *wire.Problem
		var detail huma.ErrorDetailer
		switch {
		case errors.As(err, &p):
			return p
		case errors.As(err, &detail):
			fields = append(fields, detailOf(detail.ErrorDetail()))
		}
	}
	switch {
	case slices.Contains(fields, notOneObject), status == http.StatusBadRequest: // the body is empty
		p := invalidField(notOneObject)
		p.Status, p.Code = http.StatusBadRequest, "malformed_body"
		return p
	case status == http.StatusInternalServerError: // the connection broke within the body
		return &wire.Problem{Status: http.StatusBadRequest, Code: "malformed_body", Detail: "the body ended early; send it again in full", Retryable: true}
	case status == http.StatusRequestEntityTooLarge:
		most := MaxBodyBytes
		if _, err := fmt.Sscanf(msg, "request body is too large limit=%d bytes", &most); err == nil {
			most-- // see register
		}
		return Fail(status, "body_too_large", "the body may have at most "+strconv.Itoa(most)+" bytes")
	case status == http.StatusRequestTimeout:
		return &wire.Problem{Status: status, Code: "request_timeout", Detail: "the body took too long to arrive; retry", Retryable: true}
	case status == http.StatusUnprocessableEntity:
		return invalidField(fields...)
	default:
		return &wire.Problem{Status: status, Code: "http_" + strconv.Itoa(status), Detail: msg, Retryable: status >= 500}
	}
}

// detailOf converts an error of huma, whose locations are like "query.limit" or "body".
func detailOf(d *huma.ErrorDetail) wire.FieldError {
	where, name, _ := strings.Cut(d.Location, ".")
	if where == "body" {
		return fieldOf(d.Message)
	}
	return fault(shown(name), d.Message)
}
