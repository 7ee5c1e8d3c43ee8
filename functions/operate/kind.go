package operate

import (
	"context"
	"encoding/json"
	"time"
)

// Kind is a kind of long work. A step that was cut off is done again from where the one before
// ended: doing it twice must do no harm.
type Kind interface {
	// Check says what is wrong with the parameters of a new job, as an [events.InvalidError].
	Check(Params) error
	// Step goes on with a task for about Budget, or does one small piece of it, whichever is more.
	// It may return progress and an error: the progress counts. The work is over when Finished.
	Step(context.Context, Task) (Progress, error)
}

// An Undoer is a [Kind] that leaves something behind when it is cancelled.
type Undoer interface {
	// Undo removes it, in steps: one step may be done twice.
	Undo(context.Context, Task) (Progress, error)
}

// Task is a job as its kind sees it.
type Task struct {
	ID     string
	Params Params
	Work   json.RawMessage // what the step before returned; nil: it is the first
	Budget time.Duration
}

// Progress is what a step has achieved.
type Progress struct {
	Work        json.RawMessage // how far it has come, for the next step; nil: no progress
	Phase       string
	Done, Total int64 // Total is 0 while it is not known
	Result      json.RawMessage
	Finished    bool
}

// Permanent marks an error that trying again does not mend: the job has failed.
func Permanent(err error) error { return &permanent{err} }

type permanent struct{ error }

// Unwrap returns the error itself.
func (p *permanent) Unwrap() error { return p.error }
