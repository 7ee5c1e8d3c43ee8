// Package dynamolog is a [events.Log] on DynamoDB, and a reader of its table's stream.
//
// # What it promises
//
// An append is one PutItem under the condition that the item is not there. If it is, DynamoDB
// returns it together with the refusal, so a repeat takes no second call. The sort key holds a digest
// of the item, so two regions never write different items under one key, and replication of a global
// table, whose last writer wins, has nothing to decide but which region's name stays. Reads are strongly
// consistent: they see every append that returned in this region, at twice the price of reads that may
// be stale, see [events.Range].
//
// # What happens when a call fails
//
// The SDK retries a call that was throttled, answered with an internal error or not answered, with
// the backoff of package events/dynamodb: 6 attempts within 0.8 to 1.6 s. An attempt may take 3 s,
// far more than DynamoDB needs. Retries come out of the SDK's budget of 500 tokens for a Log; if
// nearly all calls fail it is used up, and they fail at once. Retry settings in the [aws.Config] are
// not used. After the last attempt the error is one of [events.Log]:
//
//	refused for load                           ErrThrottled
//	refused otherwise (no access, no table),
//	or no connection could be made             ErrUnavailable
//	5xx, a broken connection, no answer        of an append ErrUnknownOutcome, else ErrUnavailable
//
// Before an append returns an unknown outcome it reads the event. It also reads it if a later attempt
// was refused: an earlier one may have been stored.
//
// Errors carry DynamoDB's code for them, but not its message, which may quote what it was given.
package dynamolog
