package events

import "crypto/sha256"

// Destroyed returns the event in which a region says that it has destroyed the data keys of a user who
// was erased, by the event of her erasure. However often it is made it is the same event.
func Destroyed(erased Event, region string) (Event, error) {
	sum := sha256.Sum256([]byte("destroyed " + erased.ID.String()))
	id := erased.ID // in its time
	mark := Mark(region)
	copy(id[markAt:], mark[:])
	copy(id[randomAt:], sum[:])
	act := OpsActed{What: "keys.destroyed", Target: erased.Actor, Result: "nobody can read here what she wrote"}
	return New(id, OpsStream(region), region, region, act)
}
