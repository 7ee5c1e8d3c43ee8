// Package pebblelog is a [events.Log] on Pebble, embedded in the process and durable: an append
// returns after fsync. It plays one region's replica of a global table on one machine.
//
// # What it promises
//
// Many concurrent appends share one commit and one fsync. Nothing that is not durable is ever
// shown: a read that meets an event of the commit under way waits for it. Beyond the contract of
// a Log it has a tail, the events in the order in which they arrived here, whether a client
// appended them ([Log.Append]) or another region had accepted them ([Log.Replicate]). Positions
// in the tail are dense from 1 and keep their order through a restart and a crash.
//
// # What happens when the disk fails
//
// If a commit cannot be made durable the log stops: all appends of that commit get an error
// that wraps [events.ErrUnknownOutcome], every later one ErrStopped, and what was durable before
// can still be read. Nothing of the failed commit is shown, for it may or may not be found when
// the directory is opened again. Where Pebble itself cannot go on (it cannot begin its next
// write-ahead log, or cannot write its manifest) it panics and the process ends. Nothing that
// was acknowledged is lost by that: the next Open finds it in the write-ahead log.
//
// # Layout
//
// Two kinds of key, distinguished by their first byte:
//
//	e <stream> 00 <id, 16 bytes> <digest, 10 bytes>   one event: its position, when it was accepted, its
//	                                                  stored form; a former release left out the digest
//	p <position, 8 bytes>                             one arrival: which event, and how it came
//
// No name of a stream holds the byte 00, so a stream whose name is the beginning of another's
// does not run into it, and within one stream the byte order of keys is the order of [events.Ref]s.
// The two keys of an arrival are written in one batch, and never again.
package pebblelog
