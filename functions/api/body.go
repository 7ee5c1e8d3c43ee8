package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// MaxBodyBytes is the largest request body.
const MaxBodyBytes = 64 << 10

// Error gives a fault in a body to huma, which passes on its text alone; see fieldOf.
func (f *FieldError) Error() string { return f.Field + separator + f.Reason }

// separator stands between field and reason, neither of which holds it.
const separator = "\x00"

// fieldOf undoes [FieldError.Error]. Any other text speaks of the body as a whole.
func fieldOf(text string) FieldError {
	if field, reason, ok := strings.Cut(text, separator); ok {
		return FieldError{field, reason}
	}
	return notOneObject
}

var notOneObject = FieldError{"body", "must be one JSON object"}

// Unmarshal decodes one JSON object into a struct of strings, booleans, whole numbers, lists of
// strings or of raw JSON, and pointers to them. It is stricter than encoding/json, which mends
// what is not UTF-8, passes over unknown fields, takes a name in any case and the last of two
// values: a client's mistake must not become an event. Whether a field is missing is left to what
// checks its value. The error is a [FieldError], with the field "body" if it is no object at all.
func Unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) || loneSurrogate(data) {
		return &FieldError{"body", "must be valid UTF-8, and so must be what its escapes stand for"}
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
		i, err := fieldIndex(target.Type(), key.(string), seen)
		if err != nil {
			return err
		}
		seen |= 1 << i
		if err := decodeField(dec, key.(string), target.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// fieldIndex finds a field by its name in JSON; seen has a bit for each that came before.
func fieldIndex(t reflect.Type, key string, seen int) (int, error) {
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != key {
			continue
		}
		if seen&(1<<i) != 0 {
			return 0, &FieldError{key, "must be given once"}
		}
		return i, nil
	}
	return 0, &FieldError{shown(key), "is no field of this command"}
}

// shown is a name that a client made up, as far as it can safely be shown.
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
		return &FieldError{key, "must not be null; leave it out"}
	}
	if err := json.Unmarshal(raw, field.Addr().Interface()); err != nil {
		kind := field.Type()
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch kind.Kind() {
		case reflect.Bool:
			return &FieldError{key, "must be true or false"}
		case reflect.Int:
			return &FieldError{key, "must be a whole number"}
		case reflect.Slice:
			if kind.Elem().Kind() != reflect.String {
				return &FieldError{key, "must be a list of objects"}
			}
			return &FieldError{key, "must be a list of strings"}
		default:
			return &FieldError{key, "must be a string"}
		}
	}
	return nil
}

// loneSurrogate reports whether JSON text holds an escape like \ud800 that is no character by
// itself nor with the next one.
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
			a.refuse(ctx, &Problem{
				Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type",
				Detail: "send the body as JSON, with the header Content-Type: application/json",
			})
			return
		}
		r, _ := humago.Unwrap(ctx)
		r.Header.Set("Content-Type", mediaType) // huma knows it in lower case only
	}
	next(ctx)
}

const mediaType = "application/json"
