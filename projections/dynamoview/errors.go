package dynamoview

import (
	"fmt"

	"parley/events/dynamotable"
	"parley/projections"
)

// failure is the error of a call.
type failure struct{ dynamotable.Failure }

// Is reports that a call was given up that may succeed later, as unavailable.
func (f failure) Is(target error) bool { return target == projections.ErrUnavailable && f.Passing() }

// failed wraps the error of a call.
func failed(what string, err error) error {
	return fmt.Errorf("%s: %w", what, failure{dynamotable.Failure{Err: err}})
}
