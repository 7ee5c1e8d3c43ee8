package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"parley/events"
)

// Acts notes what operators do, in the region's stream of it.
type Acts struct {
	Region string
	Log    events.Log
	Clock  *events.Clock
}

// appendTries is how often an act is appended before that is given up.
const appendTries = 3

// Append notes what a user did to a target, and what came of it. The texts are cut to what an
// event may hold.
func (a Acts) Append(ctx context.Context, user, what, target, result string) error {
	id, err := a.Clock.Mint(user)
	if err != nil {
		return err
	}
	act := events.OpsActed{What: what, Target: oneLine(target), Result: oneLine(result)}
	e, err := events.New(id, events.OpsStream(a.Region), user, a.Region, act)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		_, _, err := a.Log.Append(ctx, e) // the same event: once is enough
		if err == nil {
			return nil
		}
		if try == appendTries || ctx.Err() != nil || errors.Is(err, events.ErrUnavailable) {
			return fmt.Errorf("note that an operator acted: %w", err)
		}
	}
}

// oneLine makes a text what an act may hold.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > events.MaxResultChars {
		text = string(runes[:events.MaxResultChars-1]) + "…"
	}
	return text
}
