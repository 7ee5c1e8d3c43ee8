// Package pebbleview keeps a region's views in Pebble, an embedded ordered key-value store.
//
// [Views] does not own the database: it owns the keys that begin with its prefix. What else the
// region must remember (what its bus has carried, how far its stream was consumed) belongs into
// the same database under other prefixes, because there is one write-ahead log for all of it.
//
// # What survives
//
// Saves are not fsynced. A process that is killed or a machine that loses power takes back the
// last writes, but only ever a tail of the one write-ahead log: a checkpoint that is there has
// all Saves before it there too. The consumer then reads the stream again from the checkpoint
// that survived, and folds are idempotent. So no fsync is needed on this path, as long as the
// checkpoint is written to the same database after the Save returned. Closing the database makes
// everything durable.
//
// # Layout
//
//	key:   prefix, length of the partition (uvarint), partition, sort key
//	value: version (uvarint, from 1), body
//
// The length in front keeps partitions apart whatever bytes they hold, and the sort key stands
// last and raw, so that Pebble's order is the order of the sort keys.
package pebbleview
