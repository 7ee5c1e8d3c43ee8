// Package dynamoconns keeps a region's connections in a DynamoDB table. The table is regional, as
// connections are, and what it holds is worth nothing once the sockets are closed.
//
// # Layout
//
// The keys are partition (S) and sort (S). There are four kinds of items:
//
//	partition    sort         attributes
//	conn/<id>    connection   user, token, until, opened, seen, all, revision, expires
//	conn/<id>    rooms        rooms (a set of strings), expires
//	room/<room>  <id>         user, until, expires: a listener
//	user/<user>  <id>         expires: where to look for the user's connections
//
// Times are nanoseconds since 1970, N, and are left out where there is none; until is when the
// token expires. The attribute expires, in seconds, is the table's time to live: what a process
// that died left behind is deleted some hours after the socket must have been closed.
//
// # What holds at all times
//
// A room has a listener exactly if it is in the set of its connection: both are changed in one
// transaction, so there is no listener that nobody could find and delete. A transaction that adds
// listeners holds only if the connection is there and its revision is the expected one. Who takes
// rooms away raises the revision first, and Delete deletes the connection first: what is added
// later was allowed later, and what was added before is seen and taken.
//
// # Cost
//
// DynamoDB bills a write unit for each begun KB of an item, and two in a transaction; a read unit
// for each begun 4 KB that a read brings. A connection has about 250 bytes and its token, often
// more than 1 KB in all: c write units below, 2 as a rule. A room in a set has about 30 bytes:
// the set of up to 30 rooms costs s = 1, that of 2000 rooms 60. With n rooms:
//   - Put: c, and 1 if there is a user. Get: 1 read unit.
//   - Touch: c, once a minute at most; other calls cost nothing, for the process remembers.
//   - Subscribe: 1 read unit; then 2c + 2s + 2n, where c and s count once for each 98 rooms.
//   - Unsubscribe: c and 1 read unit; then 2s + 2n for those rooms that it listened to.
//   - Delete: c + s + n + 1, and 1 read unit.
//   - Rooms: 1 read unit for about 130 rooms.
//   - Listeners: 1 read unit for about 35 listeners.
//   - Of: 1 read unit, and 1 for each connection.
//
// So a client with 20 rooms that stays for an hour and pings each minute costs about 190 write
// units, 0.012 cents; one that pings each five minutes 90.
//
// A partition takes 1000 write units a second: 500 new listeners to one room. API Gateway lets 500
// clients connect in a second.
//
// # Failures
//
// What DynamoDB refuses for load or for another's transaction, what it fails at, and what breaks
// on the way is tried again; see [New]. After that the error is returned; it is a
// [projections.ErrUnavailable] where the cause may pass. The text of an error holds no keys. An
// operation that failed may have been done in part, and can be repeated.
package dynamoconns
