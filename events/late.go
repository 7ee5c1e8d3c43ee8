package events

import "crypto/sha256"

// EventLate says that an event of its stream reached the region that says so, its actor, much later
// than what that region had heard of the event's own. Whoever follows what happens and was taken
// from there to another region meanwhile may have been told of it nowhere: this tells her.
type EventLate struct {
	Event ID `json:"event"`
}

// Validate implements [Payload].
func (p EventLate) Validate() error {
	if p.Event == (ID{}) {
		return Invalid("event", "must not be zero")
	}
	return nil
}

// Late returns the event in which a region says that another was late. However often it is made
// it is the same event.
func Late(e Event, region string) (Event, error) {
	sum := sha256.Sum256([]byte("late " + e.ID.String()))
	id := e.ID // in its time
	mark := Mark(region)
	copy(id[markAt:], mark[:])
	copy(id[randomAt:], sum[:])
	return New(id, e.Stream, region, region, EventLate{e.ID})
}
