package live

import (
	"bytes"
	"encoding/json"
	"fmt"

	"parley/functions/api"
	"parley/projections"
)

// Frame is a frame on its way to a client. What is the same for all who get it is held once: only
// the cursor of an event is made for each user, when the frame is sent.
type Frame struct {
	head, tail []byte
	user       string // whose cursor stands between head and tail; "" if there is none
	place      *projections.Place
	cursors    *api.Cursors
}

// Append writes the frame behind b, as the text that the client gets.
func (f Frame) Append(b []byte) []byte {
	b = append(b, f.head...)
	if f.user != "" {
		b = append(b, f.cursors.Encode(f.user, *f.place)...)
	}
	return append(b, f.tail...)
}

// Bytes is the frame as the text that the client gets.
func (f Frame) Bytes() []byte { return f.Append(nil) }

// encode makes a frame of a value that can be encoded.
func encode(v any) Frame {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("live: a frame cannot be encoded: %v", err)) // made of texts and numbers
	}
	return Frame{head: bytes.TrimRight(b.Bytes(), "\n")}
}
