package dynamodb_test

import (
	"testing"
	"time"

	ddb "parley/events/dynamodb"
)

// The waits are what the drivers' documentation promises.
func TestBackoff(t *testing.T) {
	for range 100 {
		var all time.Duration
		for attempt, most := range []time.Duration{50, 100, 200, 400, 800} {
			d, most := ddb.Backoff.Delay(attempt+1), most*time.Millisecond
			if d > most || d < most/2 {
				t.Fatalf("%v after attempt %d, want %v to %v", d, attempt+1, most/2, most)
			}
			all += d
		}
		if all < 775*time.Millisecond || all > 1550*time.Millisecond {
			t.Fatalf("%v in all", all)
		}
	}
}
