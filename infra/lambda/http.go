package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"parley/functions/api"
)

// serve adapts an HTTP handler to a function that is invoked by an HTTP API of API Gateway, with payload
// format 2.0 and the stage $default.
func serve(h http.Handler) function {
	return func(ctx context.Context, payload []byte) (answer []byte, err error) {
		r, err := readRequest(ctx, payload)
		if err != nil {
			return nil, err
		}
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler { // net/http compares it so
					panic(p)
				}
				answer, err = nil, errAborted
			}
		}()
		w := &recorder{header: http.Header{}}
		h.ServeHTTP(w, r)
		return w.answer(r.Method)
	}
}

var errAborted = errors.New("the handler aborted its answer")

// httpEvent has the needed fields of the gateway's events.
type httpEvent struct {
	RawPath         string            `json:"rawPath"`
	RawQueryString  string            `json:"rawQueryString"`
	Cookies         []string          `json:"cookies"`
	Headers         map[string]string `json:"headers"` // the values of one name joined with ","
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	RequestContext  struct {
		HTTP struct {
			Method   string `json:"method"`
			SourceIP string `json:"sourceIp"`
		} `json:"http"`
	} `json:"requestContext"`
}

// readRequest reads an event of the gateway. Nothing that a client sends makes it fail: it fails if
// anything but an HTTP API with payload format 2.0 invokes the function.
func readRequest(ctx context.Context, payload []byte) (*http.Request, error) {
	var e httpEvent
	if err := json.Unmarshal(payload, &e); err != nil || e.RequestContext.HTTP.Method == "" {
		return nil, errors.New("the event is not one of an HTTP API with payload format 2.0")
	}
	body := []byte(e.Body)
	if e.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return nil, fmt.Errorf("decode the body of an HTTP event: %w", err)
		}
	}
	u := target(e.RawPath, e.RawQueryString)
	r := &http.Request{
		Method: e.RequestContext.HTTP.Method, URL: u, RequestURI: u.RequestURI(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		RemoteAddr: e.RequestContext.HTTP.SourceIP,
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		r.Header.Add(name, e.Headers[name])
	}
	if len(e.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	r.Host = r.Header.Get("Host")
	r.Header.Del("Host") // as in net/http
	return r.WithContext(ctx), nil
}

// target returns the URL of a request. An HTTP API passes on the path decoded, other sources of the
// same format as it was sent; both are accepted.
func target(path, query string) *url.URL {
	if path == "" {
		path = "/"
	}
	u := &url.URL{Path: path, RawQuery: query}
	if decoded, err := url.PathUnescape(path); err == nil && decoded != path {
		u.Path, u.RawPath = decoded, path
	}
	return u
}

// recorder records an answer.
type recorder struct {
	header http.Header
	sent   http.Header // the header as it was when the status was written
	status int
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter]. The first call counts. A status below 200 cannot be
// sent ahead of the answer and is ignored.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status, w.sent = status, w.header.Clone()
	}
}

// Write implements [http.ResponseWriter].
func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// httpAnswer is an answer in the form that the gateway reads.
type httpAnswer struct {
	StatusCode      int               `json:"statusCode"`
	Headers         map[string]string `json:"headers"`
	Cookies         []string          `json:"cookies,omitempty"`
	Body            string            `json:"body,omitempty"`
	IsBase64Encoded bool              `json:"isBase64Encoded,omitempty"`
}

// maxAnswer is how large the answer of an invocation may be, in bytes of JSON.
const maxAnswer = 6 << 20

// answer returns the recorded answer in the form that the gateway reads.
func (w *recorder) answer(method string) ([]byte, error) {
	w.WriteHeader(http.StatusOK)
	if method == http.MethodHead {
		w.body.Reset()
	}
	text, err := w.encode()
	if err == nil && len(text) > maxAnswer {
		return w.tooLarge().encode()
	}
	return text, err
}

// encode encodes an answer. A body that is not UTF-8 is sent in base 64.
func (w *recorder) encode() ([]byte, error) {
	a := httpAnswer{StatusCode: w.status, Headers: map[string]string{}, Body: w.body.String()}
	if !utf8.ValidString(a.Body) {
		a.Body, a.IsBase64Encoded = base64.StdEncoding.EncodeToString(w.body.Bytes()), true
	}
	for name, values := range w.sent {
		if name == "Set-Cookie" {
			a.Cookies = values
		} else {
			a.Headers[name] = strings.Join(values, ",")
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // a page of messages would grow by half
	if err := enc.Encode(a); err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	return out.Bytes(), nil
}

// tooLarge returns the answer in place of one that Lambda would not pass on.
func (w *recorder) tooLarge() *recorder {
	p := api.Fail(http.StatusUnprocessableEntity, "answer_too_large", "the answer would exceed 6 MB; ask for fewer items with limit")
	p.Type, p.Title, p.RequestID = "urn:parley:"+p.Code, http.StatusText(p.Status), w.sent.Get("X-Request-Id")
	small := &recorder{header: w.sent}
	small.header.Set("Content-Type", p.ContentType(""))
	small.WriteHeader(p.Status)
	_ = json.NewEncoder(small).Encode(p) // a buffer does not fail
	return small
}
