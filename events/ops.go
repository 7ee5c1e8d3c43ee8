package events

import (
	"fmt"
	"strings"
)

// OpsActed is what an operator did in a region: its actor is who, its id says when.
type OpsActed struct {
	What   string `json:"what"`             // "drain", "job.start"
	Target string `json:"target,omitempty"` // what it was done to: a job, a key, a projection
	Result string `json:"result,omitempty"` // what came of it, in words without user text
}

// The limits of an operator's act.
const (
	MaxWhatChars   = 64  // a-z 0-9 . _ -
	MaxResultChars = 500 // of target and result, in code points
)

// Validate implements [Payload].
func (p OpsActed) Validate() error {
	if len(p.What) < 1 || len(p.What) > MaxWhatChars || strings.ContainsFunc(p.What, notWhatChar) {
		return Invalid("what", fmt.Sprintf("must have 1 to %d characters of a-z 0-9 . _ -", MaxWhatChars))
	}
	for _, f := range []struct{ field, text string }{{"target", p.Target}, {"result", p.Result}} {
		if !line(f.text, MaxResultChars) {
			return Invalid(f.field, fmt.Sprintf("must have at most %d characters, on one line", MaxResultChars))
		}
	}
	return nil
}

func notWhatChar(r rune) bool { return notRegionChar(r) && r != '.' && r != '_' }
