package wire

import (
	"net/http"
	"strconv"
	"time"
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
	ID        string       `json:"id,omitempty" doc:"The id the server minted, where the outcome is unknown: retry the command under it."`

	RetryAfter int `json:"-"` // seconds, of the header Retry-After; 0: one, if there is the header
}

// FieldError names a field and says what is allowed in it.
type FieldError struct {
	Field  string `json:"field" example:"text"`
	Reason string `json:"reason" example:"must have 1 to 20000 bytes of valid UTF-8"`
}

// Error returns the field's name and what is allowed in it.
func (f *FieldError) Error() string { return f.Field + " " + f.Reason }

// Error returns the code and the detail.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// Named returns the problem with its type and title, which follow from its code and status, and
// with the id of the request that it answers.
func (p *Problem) Named(requestID string) *Problem {
	out := *p
	out.Type, out.Title, out.RequestID = "urn:parley:"+p.Code, http.StatusText(p.Status), requestID
	return &out
}

// GetStatus returns the HTTP status. With [Problem.ContentType] and [Problem.GetHeaders] it is
// what the API's framework asks of an error that it answers with.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of a problem, whatever the client would rather have.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders returns the headers of an answer that is a problem: 429, 503 and all that is retryable carry
// Retry-After.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="parley"`)
	}
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable || p.Retryable {
		h.Set("Retry-After", strconv.Itoa(max(1, p.RetryAfter)))
	}
	return h
}
