// Package client is a client of Parley: it sends commands that happen once, and delivers to an
// application every event of the user's rooms, once and without a gap, whatever happens to
// sockets and regions. It implements the protocol of functions/live/README.md.
//
//	c, err := client.New(client.Options{Endpoints: urls, User: "ada", Token: token})
//	go c.Run(ctx, func(ctx context.Context, u client.Update) error { … })
//	message, err := c.Send(ctx, room, "Can it compose music?")
//
// # Commands
//
// [Client.Send], [Client.CreateRoom] and the others mint an id, and retry the command under the
// same id, at any endpoint that answers, until it is accepted or refused for good. A [Problem] has a
// stable code to branch on. If ctx ends before the outcome is known, the error is an [UnsureError]
// with the id. Ids sort after everything the client has seen, so an answer never sorts before its
// question. [Client.Command] and [Client.Query] send whatever else the API offers. The structs of
// answers are those of package wire. The first id asks a region for the user's mark, GET /v1/me; it is
// kept for as long as the client lives.
//
// # Updates
//
// [Client.Run] calls the handler with one [Update] after the other. The first is a [Reset]: load
// what you show. Then comes each [Event], of any type. Between two Resets each event (each stream
// and id) is delivered once, as far as the memory below reaches, and none is left out. Those of a
// room come in the order in which they arrived in the region that delivers them. Another region may
// have another order: sort by id what is to look the same everywhere.
//
// A client that may lag says so: with a [Status] while it catches up or reaches no endpoint, and
// with a Reset where the events cannot be listed completely, or where the application has loaded
// something from another region than the one that delivers, which may be behind.
//
// # Memory
//
// It is bounded. The client deduplicates by the last 50,000 events, in about 5 MB, and by all of the 20
// minutes before its cursor, up to 500,000 in about 50 MB: another region delivers the last 15 minutes
// again. Of a client that receives more than that, or of regions that were cut off from each other for
// longer, events may be delivered twice. It holds at most 1 MB of events behind a gap, and
// reads at most 32 frames ahead of the handler. If the application is slower than that, the server
// closes the socket, and the client catches up from its cursor.
package client
