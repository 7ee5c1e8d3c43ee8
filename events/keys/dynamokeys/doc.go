// Package dynamokeys keeps users' data keys in a DynamoDB table, beside the log and replicated as it
// is. The keys in it are wrapped: who reads the table has none of them.
//
// # Layout
//
// An item is a key, or the mark of who was erased:
//
//	user     partition key, S   the user                                1 to 64
//	key      sort key, S        the key's id in hexadecimal, "erased"   16, 6
//	wrapped  B                  the key, wrapped; the mark has none     about 180 by KMS
//
// Each key is an item of its own, written once, so replication has nothing to merge: two regions
// that make a first key for one user side by side give her two.
//
// # What holds at all times
//
// Erase writes the mark before it looks for keys, Add writes its key before it looks for the mark.
// Whichever comes first, one of them sees what the other wrote: a key is deleted, or its Add fails
// and nothing is sealed with it. What such an Add leaves behind opens nothing, and the next Erase
// takes it. Each region erases for itself what it added itself, so keys that were on their way from
// one region to another are deleted where they come from, and the deletion follows them.
//
// # Cost
//
// DynamoDB counts the bytes of names, 14, and values: about 300 in all. It bills
//   - an Add: a write unit for each begun KB, so one; and a read unit.
//   - a Load: a read unit for each begun 4 KB, so one: a user rarely has more than a key. A
//     [keys.Ring] asks once for each user in [keys.Life].
//   - an Erase: a write unit, and one for each key; and a read unit.
//   - Users: a read unit for each begun 4 KB of the table, about 14 keys.
//
// Every region pays for the writes. All reads are strongly consistent, for the contract wants what
// was erased in this region to be so for all of it.
//
// # Failures
//
// What DynamoDB refuses for load, what it fails at and what breaks on the way is tried again; see
// [New]. After that the error is returned: it is [events.ErrThrottled] if DynamoDB refused for load,
// and [events.ErrUnavailable] where another cause may pass. The text of an error names nobody: of
// what DynamoDB says it has the code alone. An operation that failed may have been done in part, and
// can be repeated.
package dynamokeys
