// Package dynamoview keeps a region's views in a DynamoDB table.
//
// # Layout
//
// A view is an item:
//
//	partition  partition key, S   "timeline/<room>"
//	sort       sort key, S        "<message id>"
//	version    N                  how often the view was saved, from 1
//	body       B                  what the projection made of the events
//
// The body is binary because that is what it is: any bytes, and sealed ones among them. DynamoDB
// bills the bytes themselves, for a text as for a binary, so it costs the same as text would.
// DynamoDB orders sort keys by the bytes of their UTF-8, as the contract wants it. It takes no
// empty keys and no bytes that are not UTF-8; no projection makes such keys, and here they are
// refused before they are sent, because the SDK would send other bytes in their place.
//
// # Cost
//
// DynamoDB counts the bytes of names and values: here 24 for the names, about 2 for the version,
// and the keys and the body as they are. It bills
//   - a Save: one write unit for each begun KB of each view, the stored or the new one, whichever
//     is bigger; the same for one that is refused for its version. The view of a message of up to
//     about 550 bytes, which are a third more when they are sealed, costs one.
//   - a Get: one read unit for each begun 4 KB of each view; one for a view that is not there.
//   - a Query: one read unit for each begun 4 KB of all that it returns together. A page of 50
//     short messages costs about 4.
//   - a Delete: as a Save of the stored view.
//   - a Scan: one read unit for each begun 4 KB of the table that it goes through, whatever it picks.
//
// All reads are strongly consistent, which is twice the price of the other kind. It is what the
// contract promises; and a fold of a stale view would be a conflict, and a wasted write.
//
// Views are saved side by side and not in a transaction, which costs twice as much: nothing in
// the contract needs two views to change together.
//
// # Failures
//
// The SDK's standard retryer retries throttled calls, server errors and broken connections, within
// the budget it allows to all calls together; see [New]. After that the error is returned. It is a
// [projections.ErrUnavailable] if the cause may pass, and a [projections.ErrRefused] if the table can
// never hold a view: an item has at most 400 KB. The text of an error holds no keys, and of
// DynamoDB's message only the code.
//
// A Save whose answer was lost may find what it stored itself when it is retried, and reports a
// conflict. This cannot be distinguished from another writer that stored the same body, and the view would
// then count two changes as one. It is harmless: the caller loads the view again and finds nothing
// left to change.
package dynamoview
