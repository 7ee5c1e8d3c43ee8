package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxElement bounds one element of a file of Slack's, in bytes.
const maxElement = 4 << 20

// readArray reads a file that holds a list, element by element. What cannot be read becomes a record
// with a problem, and the rest goes on.
func readArray[T any](x *slackExport, file string, take func(n int, element T) bool) bool {
	problem := func(n int, text string) bool {
		return x.yield(Record{Place: Place{file, n}, Problem: text})
	}
	f, err := x.Files.Open(file)
	if err != nil {
		return problem(0, "the file cannot be opened")
	}
	defer func() { _ = f.Close() }()
	in := &limited{in: f}
	dec := json.NewDecoder(in)
	in.left = maxElement
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		return problem(0, "the file is no JSON list")
	}
	for n := 1; dec.More(); n++ {
		in.left = maxElement
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return problem(n, brokenOff(err))
		}
		if !utf8.Valid(raw) {
			if !problem(n, "it is not valid UTF-8") {
				return false
			}
			continue
		}
		var element T
		if err := json.Unmarshal(raw, &element); err != nil {
			if !problem(n, jsonProblem(err)) {
				return false
			}
			continue
		}
		if !take(n, element) {
			return false
		}
	}
	if _, err := dec.Token(); err != nil {
		return problem(0, brokenOff(err))
	}
	return true
}

func brokenOff(err error) string {
	if errors.Is(err, errTooLong) {
		return fmt.Sprintf("it has more than %d bytes: the rest of the file was not read", maxElement)
	}
	return "from here on the file is not JSON: the rest of it was not read"
}

var errTooLong = errors.New("too long")

// limited fails after so many bytes.
type limited struct {
	in   io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.in.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
