// Package dynamokeys stores users' data keys in a DynamoDB table, which is replicated like the event
// table beside it. The keys are wrapped: the table alone decrypts nothing.
//
// # Layout
//
// An item is a key, or the record that the user was erased:
//
//	user     partition key, S   the user                                1 to 120
//	key      sort key, S        the key's id in hexadecimal, "erased"   16, 6
//	wrapped  B                  the wrapped key; absent on "erased"     about 180 by KMS
//
// Each key is an item of its own, written once, so replication has nothing to merge. If two regions
// create a first key for a user concurrently, the user has two.
//
// # Invariants
//
// Erase writes the item "erased" before it reads the keys. Add writes its key before it reads the item
// "erased". So one of two concurrent calls sees the write of the other: the key is deleted, or its Add
// fails and nothing is sealed with it. A key that a failed Add leaves behind decrypts nothing, and the
// next Erase deletes it. Erase runs in each region, so a key that is being replicated is deleted in
// the region it comes from, and the deletion is replicated after it.
//
// # Cost
//
// DynamoDB counts the bytes of names, 14, and values: about 300 in all. It bills
//   - an Add: a write unit for each begun KB, so one; and a read unit.
//   - a Load: a read unit for each begun 4 KB, so one: a user rarely has more than one key. A
//     [keys.Ring] loads the keys of a user once in [keys.Life].
//   - an Erase: a write unit, and one for each key; and a read unit.
//   - Users: a read unit for each begun 4 KB of the table, about 14 keys.
//
// Every region pays for the writes. All reads are strongly consistent: the contract requires that an
// erasure is visible in its whole region at once.
//
// # Failures
//
// Calls that are throttled, fail on DynamoDB's side or lose their connection are retried, see [New].
// After the last attempt the error is [events.ErrThrottled] if the call was throttled, and
// [events.ErrUnavailable] for other causes that may be temporary. The text of an error contains no
// user: of DynamoDB's answer it has only the code. A failed operation may be partly done, and can be
// repeated.
package dynamokeys
