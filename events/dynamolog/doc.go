// Package dynamolog is a [events.Log] on DynamoDB, and a reader of its table's stream.
//
// # What it promises
//
// An append is one PutItem under the condition that the item is not there. If it is, DynamoDB
// returns it together with the refusal, so "the same again" is told from "other content" without
// a second call. Reads are strongly consistent: they see every append that returned in this
// region, at twice the price of reads that may not.
//
// # What happens when a call fails
//
// The SDK repeats a call that was throttled, answered with an internal error or not answered, up
// to 6 times in all, with waits of about 50, 100, 200, 400 and 800 ms, each cut at random by up to
// half: 0.8 to 1.6 s in all, for DynamoDB counts its limits by the second. A call may take 3 s,
// by far more than DynamoDB needs. Retries come out of the SDK's budget of 500 tokens for a Log;
// where nearly all calls fail it is used up, and they fail at once. Retry settings in the
// [aws.Config] are not used. What is left then is told in the words of [events.Log]:
//
//	refused for load                           ErrThrottled
//	refused otherwise (no access, no table),
//	or no connection could be made             ErrUnavailable
//	5xx, a broken connection, no answer        of an append ErrUnknownOutcome, else ErrUnavailable
//
// Before an append says that its outcome is unknown it looks for the event. It looks as well
// where a later attempt was refused: an earlier one may have been stored.
//
// Errors carry DynamoDB's code for them, but not its message, which may quote what it was given.
package dynamolog
