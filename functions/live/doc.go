// Package live is what runs when a client holds a WebSocket: it subscribes to rooms, is told what
// happens as it happens, sends, and catches up. It knows no transport: API Gateway and
// infra/local both call [Handler] and lend it [Sockets] to answer through.
//
// # The protocol
//
// GET /v1/live, a WebSocket. Frames are JSON objects as text, of at most 32 KB each, both ways.
// The token comes in the header Authorization: Bearer, or as a subprotocol beside parley.v1
// (["parley.v1", "bearer.<token>"]; the server picks parley.v1), or in the first frame, within 10 s.
// It is never part of the URL. The answer to auth is hello; auth goes without the token if the
// handshake had it. Until there is a token no other frame is taken.
//
// A client sends, with a ref (a number, or a string of at most 64 bytes) that the answer repeats:
//
//	{"action":"auth","token"?,"ref"?}                    the token, unless the handshake had it
//	{"action":"subscribe","rooms"?,"cursor"?,"ref"?}     without rooms: all of mine, also those to come
//	{"action":"unsubscribe","rooms"?,"ref"?}             without rooms: everything
//	{"action":"send","room","id"?,"text","reply_to"?,"thread"?,"after"?,"ref"?}
//	{"action":"typing","room"}
//	{"action":"catchup","cursor","limit"?,"ref"?}
//	{"action":"ping","ref"?}
//
// and gets:
//
//	{"type":"hello","ref","region","user"}               the token was accepted
//	{"type":"event","room"?,"stream","position","cursor","event":{id,stream,type,version,actor,region,data}}
//	{"type":"typing","room","user"}
//	{"type":"subscribed","ref","rooms":[…],"positions":{room:top},"own"?,"cursor","more"?,"reset"?}
//	{"type":"unsubscribed","ref"}
//	{"type":"sent","ref","message":{…},"repeat"}         as PUT …/messages/{id} answers
//	{"type":"caught_up","ref","cursor","more","reset"}   behind the event frames of a catchup
//	{"type":"pong","ref","positions":{room:top},"own"?,"cursor"}
//	{"type":"error","ref","problem":{…}}                 as application/problem+json
//	{"type":"removed","room"}                            she may no longer listen to the room
//	{"type":"bye","code","detail"}                       the last frame, see [Code]
//
// # What a client may rely on
//
// An event that came to this region after subscribed comes as a frame, unless the socket is closed.
// None is left out in the middle, but where the region could not look up who listens: positions
// show that, those of the next event or of a pong. An event may come more than once. So a snapshot
// taken after subscribed lacks nothing that does not come as a frame.
//
// Subscribe with a cursor sends what happened since first, then subscribed. More says that there
// is more to catch up on from its cursor, reset that all must be loaded again, as in GET /v1/sync.
// Frames of what happens meanwhile may come in between: until subscribed, and while catching up
// after a gap, the cursor to come back with is the old one. The events of a catchup carry the
// cursor with which it was asked for.
//
// A cursor speaks of all of the user's rooms, whatever the socket listens to. Positions is the top
// position of each room the socket listens to, and own that of the user's own stream if it listens
// to all of hers. In a pong the cursor was read before the positions: it may be kept once nothing
// up to the positions is missing. An event may be on its way when a pong is sent: it is lost only
// if it is still missing a moment later.
//
// What would not fit into a frame: a subscribed or a pong with many rooms comes as several frames
// of one ref, with "part":true in all but the last, which has the cursor. An event that is too
// large comes without its data, a sent message without its text, with "partial":true: GET has it.
//
// Typing is told to those who listen in the same region; it is stored nowhere.
package live
