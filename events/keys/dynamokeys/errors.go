package dynamokeys

import (
	"fmt"

	"parley/events"
	"parley/events/dynamotable"
)

// failure is the error of a call.
type failure struct{ dynamotable.Failure }

// Is says in the log's words what a call was given up for, if it may succeed later.
func (f failure) Is(target error) bool {
	switch target {
	case events.ErrThrottled:
		return f.Throttled()
	case events.ErrUnavailable:
		return !f.Throttled() && f.Passing()
	default:
		return false
	}
}

// failed wraps the error of a call.
func failed(what string, err error) error {
	return fmt.Errorf("%s: %w", what, failure{dynamotable.Failure{Err: err}})
}
