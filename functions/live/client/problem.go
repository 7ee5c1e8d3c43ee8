package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"parley/events"
)

// Problem is an answer that is an error, with a stable code to branch on, or no answer at all.
type Problem struct {
	Status    int        `json:"status"` // of HTTP; 0: there was no answer
	Code      string     `json:"code"`   // "room_not_found"; "no_answer" if there was none
	Detail    string     `json:"detail"` // for people
	RequestID string     `json:"request_id"`
	Retryable bool       `json:"retryable"` // the same request may succeed later
	Time      *time.Time `json:"time"`      // the server's, where the time in an id is at fault

	after time.Duration // to wait before coming again, if the server says so
	cause error         // why there was no answer
}

// Error implements error.
func (p *Problem) Error() string {
	if p.cause != nil {
		return fmt.Sprintf("%s: %v", p.Code, p.cause)
	}
	return p.Code + ": " + p.Detail
}

// Unwrap returns why there was no answer; nil if there was one.
func (p *Problem) Unwrap() error { return p.cause }

// noAnswer is the problem of a request that was not answered.
func noAnswer(cause error) *Problem {
	return &Problem{Code: "no_answer", Retryable: true, cause: cause}
}

// problemOf reads an answer that is an error. What stands before a region, like a proxy or API
// Gateway, answers in another form: then the status says enough.
func problemOf(status int, header http.Header, body []byte) *Problem {
	p := &Problem{}
	if json.Unmarshal(body, p) != nil || p.Code == "" {
		*p = Problem{Code: "http_" + strconv.Itoa(status), Detail: http.StatusText(status)}
		p.Retryable = status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	}
	p.Status = status
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		p.after = time.Duration(min(seconds, 60)) * time.Second
	}
	return p
}

// unsure reports whether the command may have happened all the same.
func (p *Problem) unsure() bool {
	var broken *net.OpError
	if p.Status == 0 && errors.As(p.cause, &broken) && broken.Op == "dial" {
		return false // it never left
	}
	return p.Status == 0 || p.Status >= 500
}

// regional reports whether another region is worth a try.
func (p *Problem) regional() bool {
	return (p.Status == 0 || p.Status >= 500) && p.Code != "throttled"
}

// asProblem finds the problem in an error, or makes one of it.
func asProblem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return noAnswer(err)
}

// IsProblem reports whether an error is a [Problem] with the code.
func IsProblem(err error, code string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code == code
}

// UnsureError says that a command may have happened or not. To find out, send it again under
// its id, at any time within a day: it happens once.
type UnsureError struct {
	ID  events.ID // that the command was sent under
	Err error     // what the last attempt came to
}

// Error implements error.
func (e *UnsureError) Error() string {
	return "the command may or may not have happened: " + e.Err.Error()
}

// Unwrap returns what the last attempt came to.
func (e *UnsureError) Unwrap() error { return e.Err }
