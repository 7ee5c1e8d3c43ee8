// Package client is a client of Parley: it sends commands that happen once, and tells an application
// everything that happens, once and without a gap, whatever becomes of sockets and regions.
//
//	c, err := client.New(client.Options{Endpoints: urls, User: "ada", Token: token})
//	go c.Run(ctx, func(ctx context.Context, u client.Update) error { … })
//	message, err := c.Send(ctx, room, "Can it compose music?")
//
// # Commands
//
// [Client.Send], [Client.CreateRoom] and the others mint an id, and send the command again under the
// same id, to whichever endpoint answers, until it has happened or was refused for good: an answer
// that it happened before is a success. The error is then a [Problem] with a stable code. If ctx
// ends while that is open it is an [UnsureError] with the id. Ids sort after all that the client has
// seen, so an answer never sorts before its question. [Client.Command] and [Client.Query] send
// whatever else the API offers.
//
// # Updates
//
// [Client.Run] calls the handler with one [Update] after the other. The first is a [Reset]: load
// what you show. Then comes each [Event], of whatever kind. From one Reset to the next each event,
// which is to say each stream and id, is told once; none is left out, unless a Reset says so;
// those of a room come in the order in which they arrived in the region that tells. Another region
// may have them in another order: sort by id what is to look the same to all.
//
// A client that is not sure says so: with a [Status] while it catches up or reaches nobody, and with
// a Reset where what happened cannot be told, or where the application has loaded something from
// another region than the one that tells and may lack what that one does not know yet.
//
// # Memory
//
// It is bounded. The client remembers the last 50,000 events as told, in about 5 MB: no region goes
// further back than over its last 50,000 arrivals. It holds back at most 1 MB of events behind a gap,
// and reads at most 32 frames ahead of the handler; an application that is slower than that
// is dropped by the server and caught up with from its cursor.
package client
