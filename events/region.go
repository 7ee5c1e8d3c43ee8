package events

// RegionBeat is a region's sign of life, appended to its own stream about once a minute. The
// last beat received from another region says how far this one has heard of it.
type RegionBeat struct{}

// Validate implements [Payload].
func (RegionBeat) Validate() error { return nil }
