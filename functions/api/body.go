package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"parley/functions/wire"
)

// MaxBodyBytes is the largest request body.
const MaxBodyBytes = 64 << 10

// unmarshalBody is [Unmarshal] of a request's body.
func unmarshalBody(data []byte, v any) error {
	var field *wire.FieldError
	if err := Unmarshal(data, v); errors.As(err, &field) {
		return bodyError{field}
	}
	return nil
}

// bodyError carries a fault in a body through huma, which passes on only its text.
type bodyError struct{ *wire.FieldError }

// separator stands between field and reason; neither contains it.
const separator = "\x00"

func (e bodyError) Error() string { return e.Field + separator + e.Reason }

// fieldOf undoes [bodyError.Error]. Any other text is about the body as a whole.
func fieldOf(text string) wire.FieldError {
	if field, reason, ok := strings.Cut(text, separator); ok {
		return fault(field, reason)
	}
	return notOneObject
}

func fault(field, reason string) wire.FieldError {
	return wire.FieldError{Field: field, Reason: reason}
}

var notOneObject = fault("body", "must be one JSON object")

// Unmarshal decodes one JSON object into a struct of strings, booleans, whole numbers, lists of
// strings or of raw JSON, and pointers to them. It is stricter than encoding/json, which replaces
// invalid UTF-8, ignores unknown fields, accepts a name in any case and the last of two values: a
// client's mistake must not become an event. It accepts missing fields: the code that uses a value checks
// it. The error is a [wire.FieldError], with the field "body" if the text is not an object.
func Unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) || loneSurrogate(data) {
		return &wire.FieldError{Field: "body", Reason: "must be valid UTF-8, with \\u escapes that are valid too"}
	}
	if !json.Valid(data) {
		return &notOneObject
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return &notOneObject
	}
	target := reflect.ValueOf(v).Elem()
	if target.Kind() == reflect.Pointer { // a body that may be missing
		target.Set(reflect.New(target.Type().Elem()))
		target = target.Elem()
	}
	for seen := 0; dec.More(); {
		key, err := dec.Token()
		if err != nil {
			return &notOneObject
		}
		field, n := findField(target, key.(string), 0)
		switch {
		case !field.IsValid():
			return &wire.FieldError{Field: shown(key.(string)), Reason: "is not a field of this command"}
		case seen&(1<<n) != 0:
			return &wire.FieldError{Field: key.(string), Reason: "must be given once"}
		}
		seen |= 1 << n
		if err := decodeField(dec, key.(string), field); err != nil {
			return err
		}
	}
	return nil
}

// findField finds a field by its name in JSON, those of embedded structs too, and its number among
// all of them, which begin at first. If there is none, the field is not valid.
func findField(target reflect.Value, key string, first int) (field reflect.Value, n int) {
	t := target.Type()
	n = first
	for i := range t.NumField() {
		if t.Field(i).Anonymous {
			if field, n = findField(target.Field(i), key, n); field.IsValid() {
				return field, n
			}
			continue
		}
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name == key {
			return target.Field(i), n
		}
		n++
	}
	return reflect.Value{}, n
}

// shown is a name that a client has chosen, shortened and without characters that cannot be shown.
func shown(name string) string {
	const most = 64
	name = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return -1
	}, name)
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return name
}

func decodeField(dec *json.Decoder, key string, field reflect.Value) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return &notOneObject
	}
	if raw[0] == 'n' {
		return &wire.FieldError{Field: key, Reason: "must not be null; leave it out"}
	}
	if err := json.Unmarshal(raw, field.Addr().Interface()); err != nil {
		kind := field.Type()
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch kind.Kind() {
		case reflect.Bool:
			return &wire.FieldError{Field: key, Reason: "must be true or false"}
		case reflect.Int:
			return &wire.FieldError{Field: key, Reason: "must be a whole number"}
		case reflect.Slice:
			if kind.Elem().Kind() != reflect.String {
				return &wire.FieldError{Field: key, Reason: "must be a list of objects"}
			}
			return &wire.FieldError{Field: key, Reason: "must be a list of strings"}
		default:
			return &wire.FieldError{Field: key, Reason: "must be a string"}
		}
	}
	return nil
}

// loneSurrogate reports whether JSON text contains an escape like \ud800 that is half a character,
// without the other half.
func loneSurrogate(data []byte) bool {
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 || len(data) < i+2 {
			return false
		}
		unit := codeUnit(data[i:])
		data = data[i+2:]
		switch {
		case unit >= 0xdc00 && unit < 0xe000:
			return true
		case unit >= 0xd800 && unit < 0xdc00:
			data = data[4:]
			if low := codeUnit(data); low < 0xdc00 || low >= 0xe000 {
				return true
			}
			data = data[6:]
		}
	}
}

// codeUnit reads an escape \uXXXX at the beginning of data; 0 if there is none.
func codeUnit(data []byte) uint64 {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0
	}
	unit, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return unit
}

// wantJSON is the middleware that refuses bodies of another media type.
func (a *API) wantJSON(ctx huma.Context, next func(huma.Context)) {
	if given := ctx.Header("Content-Type"); given != "" && given != mediaType {
		got, _, err := mime.ParseMediaType(given)
		if err != nil || got != mediaType {
			a.refuse(ctx, &wire.Problem{
				Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type",
				Detail: "the body must be JSON; send it with the header Content-Type: application/json",
			})
			return
		}
		r, _ := humago.Unwrap(ctx)
		r.Header.Set("Content-Type", mediaType) // huma accepts it in lower case only
	}
	next(ctx)
}

const mediaType = "application/json"
