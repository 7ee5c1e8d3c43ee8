package live

import "parley/functions/api"

// Describe puts GET /v1/live into the API's OpenAPI document.
func Describe(a *api.API) {
	a.Elsewhere(api.Operation{
		ID: "live", Method: "GET", Path: "/v1/live", Tag: "live",
		Summary: "What happens, as it happens: a WebSocket",
		Detail: "Connect with the subprotocol " + Protocol + ". The token comes as Authorization: Bearer, as a second subprotocol bearer.<token>, or in the first frame; " +
			"never in the URL. Frames are JSON objects of at most 32768 bytes. You send {\"action\":…}: auth (answered by hello), subscribe (rooms, or all of yours; a cursor " +
			"to catch up from), unsubscribe, send, typing, catchup, ping (answered by pong with the top position of each room). You get {\"type\":…}: event frames with room, " +
			"position, cursor and the event; answers with the ref of the frame they answer; removed where you may no longer listen; bye with a reason code before the " +
			"server closes. The README has the protocol under \"Write a client\". A deployed region may serve it at a name of its own.",
	}, map[string]string{
		"101": "The socket is open.",
		"401": "The token of the handshake is not valid here.",
		"403": "A page of another origin may not connect.",
		"426": "It was no WebSocket handshake.",
		"503": "The region takes no connections; try another.",
	})
}
