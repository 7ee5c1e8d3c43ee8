package main

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"parley/events"
	"parley/functions/api"
)

// badField makes an error that names what is wrong in a request.
func badField(field, reason string) error { return events.Invalid(field, reason) }

// refuse answers with a problem, as the API does.
func refuse(w http.ResponseWriter, p *api.Problem) {
	out := *p
	out.Type, out.Title = "urn:parley:"+p.Code, http.StatusText(p.Status)
	out.RequestID = strconv.FormatUint(rand.Uint64(), 36)
	w.Header().Set("X-Request-Id", out.RequestID)
	for key, values := range out.GetHeaders() {
		w.Header()[key] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(out.Status)
	_ = json.NewEncoder(w).Encode(out) // the client has gone
}

// refuseInput answers that something in the request is wrong.
func refuseInput(w http.ResponseWriter, err error) {
	p := api.Fail(http.StatusBadRequest, "malformed_body", err.Error())
	var tooLarge *http.MaxBytesError
	if invalid := events.IsInvalid(err); invalid != nil {
		p = api.Fail(http.StatusUnprocessableEntity, "invalid_field", err.Error())
		p.Errors = []api.FieldError{{Field: invalid.Field, Reason: invalid.Reason}}
	} else if errors.As(err, &tooLarge) {
		p = api.Fail(http.StatusRequestEntityTooLarge, "body_too_large", "the body may have 4096 bytes")
	}
	refuse(w, p)
}

// maxControlBody bounds the bodies of /local/*.
const maxControlBody = 4 << 10

// input decodes the body of a request: one JSON object without unknown fields.
func input(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if err = dec.Decode(&struct{}{}); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	var wrong *json.UnmarshalTypeError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return err
	case errors.As(err, &wrong) && wrong.Field != "":
		return badField(wrong.Field, "must be a "+wrong.Type.String())
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return badField(strings.Trim(name, `"`), "is not a field of this request")
	}
	return errors.New("the body must be one JSON object")
}

// methods answers a path by method.
type methods map[string]http.HandlerFunc

// ServeHTTP implements [http.Handler].
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler, ok := m[r.Method]; ok {
		handler(w, r)
		return
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
		if m[method] != nil {
			allowed = append(allowed, method)
		}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	refuse(w, api.Fail(http.StatusMethodNotAllowed, "method_not_allowed", "use "+strings.Join(allowed, " or ")))
}
