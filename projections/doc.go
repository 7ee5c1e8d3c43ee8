// Package projections is the read side: it answers what the log's events add up to.
//
// A [Projection] names the views an event touches and folds the event into each of them. Folds
// are commutative, associative and idempotent over event ids: any order, any duplication, the
// same view. Because of that a region may fold what arrives as it arrives, a stream may
// redeliver, a command may fold ahead of the stream, and regions converge without a lock.
//
// [Engine] runs the folds over a batch of events against [Views], the store of documents.
// [Feed] is the one exception: it records the order in which events arrived in this region.
// The typed read functions (LoadRoom, ListMessages and so on) stand beside the folds they read.
package projections
