package live_test

import (
	"testing"

	"parley/functions/live"
	"parley/functions/live/livetest"
)

func TestMemory(t *testing.T) {
	livetest.Run(t, func(*testing.T) live.Connections { return live.NewMemory() })
}
