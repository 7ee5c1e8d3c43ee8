package source

import (
	"encoding/json"
	"fmt"
	"io"
)

// maxElement is the largest element of a Slack file, in bytes.
const maxElement = 4 << 20

// readArray reads a JSON array of objects from a file, element by element, or the arrays in one object. An
// element that is no object becomes a record with a problem, and reading continues with the next one.
func (x *slackReader) readArray(f File, take func(n int, o *object)) {
	if x.stopped {
		return
	}
	file, err := f.Open()
	if err != nil {
		x.problem(f.Name, 0, "the file cannot be opened: "+err.Error())
		return
	}
	defer func() { _ = file.Close() }()
	in := &io.LimitedReader{R: &lenientReader{in: utf8Reader(file)}, N: maxElement}
	r := &arrayReader{slackReader: x, file: f.Name, in: in, dec: json.NewDecoder(in), take: take}
	token, err := r.dec.Token()
	switch {
	case err == nil && token == json.Delim('['):
		r.readElements()
	case err == nil && token == json.Delim('{'):
		r.readObject()
	default:
		x.problem(f.Name, 0, "the file is not a JSON array")
		return
	}
	if !x.stopped && !r.failed {
		if _, err := r.dec.Token(); err != io.EOF {
			x.problem(f.Name, 0, "not JSON behind the end of the array")
		}
	}
}

type arrayReader struct {
	*slackReader
	file   string
	in     *io.LimitedReader
	dec    *json.Decoder
	take   func(n int, o *object)
	n      int
	failed bool
}

// cutOff reports that the rest of the file cannot be read.
func (r *arrayReader) cutOff(n int) {
	r.failed = true
	if r.in.N == 0 {
		r.problem(r.file, n, fmt.Sprintf("larger than %d bytes: the rest of the file was not read", maxElement))
	} else {
		r.problem(r.file, n, "not JSON from here on: the rest of the file was not read")
	}
}

// readElements reads an array behind its opening bracket.
func (r *arrayReader) readElements() {
	for r.dec.More() && !r.stopped {
		r.n++
		r.in.N = maxElement
		var raw json.RawMessage
		if r.dec.Decode(&raw) != nil {
			r.cutOff(r.n)
			return
		}
		if o, problem := decodeObject(raw); problem != "" {
			r.problem(r.file, r.n, problem)
		} else {
			r.take(r.n, o)
		}
	}
	if r.stopped {
		return
	}
	if _, err := r.dec.Token(); err != nil {
		r.cutOff(0)
	}
}

// readObject reads the arrays of an object, behind its opening bracket: {"messages":[…]}.
func (r *arrayReader) readObject() {
	arrays := 0
	for r.dec.More() && !r.stopped && !r.failed {
		r.in.N = maxElement
		if _, err := r.dec.Token(); err != nil { // the name
			r.cutOff(0)
			return
		}
		token, err := r.dec.Token()
		switch {
		case err != nil:
			r.cutOff(0)
			return
		case token == json.Delim('['):
			arrays++
			r.readElements()
		case token == json.Delim('{'):
			for depth := 1; depth > 0; {
				inner, err := r.dec.Token()
				if err != nil {
					r.cutOff(0)
					return
				}
				switch inner {
				case json.Delim('{'), json.Delim('['):
					depth++
				case json.Delim('}'), json.Delim(']'):
					depth--
				}
			}
		}
	}
	if r.failed || r.stopped {
		return
	}
	if _, err := r.dec.Token(); err != nil {
		r.cutOff(0)
	} else if arrays == 0 {
		r.problem(r.file, 0, "the file is not a JSON array")
	}
}
