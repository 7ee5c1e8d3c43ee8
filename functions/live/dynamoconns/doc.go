// Package dynamoconns stores a region's connections in a DynamoDB table. The table is regional, as
// connections are, and needs no backup: its content is useless once the sockets are closed.
//
// # Layout
//
// The keys are partition (S) and sort (S). There are four kinds of items:
//
//	partition    sort         attributes
//	conn/<id>    connection   user, scopes, until, opened, seen, all, revision, expires
//	conn/<id>    rooms        rooms (a set of strings), expires
//	room/<room>  <id>         user, until, expires: a listener
//	user/<user>  <id>         expires: where to look for the user's connections
//
// The bearer token itself is not stored; scopes are its scopes, separated by spaces.
//
// Times are nanoseconds since 1970, N, and are left out where there is none; until is when the
// token expires. The attribute expires, in seconds, is the table's time to live: what a process
// that died has left behind is deleted some hours after the socket must have closed.
//
// # What holds at all times
//
// A room has a listener exactly if it is in the set of its connection: both are changed in one
// transaction, so no listener is orphaned. A transaction that adds listeners succeeds only if the
// connection exists with the expected revision. Unsubscribe increments the revision first, and
// Delete deletes the connection first: what is added later was allowed later, and what was added
// before is found and removed.
//
// # Cost
//
// DynamoDB bills a write unit for each begun KB of an item, and two in a transaction; a read unit
// for each begun 4 KB that a read brings. A connection has about 300 bytes. A room in a set has about 30
// bytes: the set of up to 30 rooms costs s = 1, that of 2000 rooms 60. With n rooms:
//   - Put: 1, and 1 if there is a user. Get: 1 read unit.
//   - Touch: 1, at most once a minute; other calls cost nothing, because the time is cached.
//   - Subscribe: 1 read unit; then 2 + 2s + 2n, where 2 and s count once for each 98 rooms.
//   - Unsubscribe: 1 and 1 read unit; then 2s + 2n for those rooms that it listened to.
//   - Delete: 1 + s + n + 1, and 1 read unit.
//   - Rooms: 1 read unit for about 130 rooms.
//   - Listeners: 1 read unit for about 35 listeners.
//   - Of: 1 read unit, and 1 for each connection.
//
// So a client with 20 rooms that stays for an hour and pings each minute costs about 130 write
// units, 0.008 cents; one that pings each five minutes 80.
//
// A partition takes 1000 write units a second: 500 new listeners to one room. API Gateway lets 500
// clients connect in a second.
//
// # Failures
//
// Calls that DynamoDB throttles, that conflict with another transaction, and that fail on the server or
// the network are retried; see [New]. Then the error is returned: a [projections.ErrUnavailable] if
// the call may succeed later. The text of an error contains no keys. An operation that failed may
// be done in part, and can be repeated.
package dynamoconns
