package dynamoconns_test

import (
	"testing"

	"parley/functions/live"
	"parley/functions/live/livetest"
)

func TestConnections(t *testing.T) {
	livetest.Run(t, func(t *testing.T) live.Connections { return open(t) })
}
