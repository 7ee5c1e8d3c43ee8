package dynamolog

import (
	"testing"
	"time"
)

// TestDelay holds the waits to what the package's comment promises.
func TestDelay(t *testing.T) {
	for range 100 {
		var all time.Duration
		for attempt, most := range []time.Duration{50, 100, 200, 400, 800} {
			d, most := delay(attempt+1), most*time.Millisecond
			if d > most || d < most/2 {
				t.Fatalf("%v after attempt %d, want %v to %v", d, attempt+1, most/2, most)
			}
			all += d
		}
		if all < 775*time.Millisecond || all > 1550*time.Millisecond {
			t.Fatalf("%v in all", all)
		}
		for _, attempt := range []int{0, 6, 7, 64, 1 << 40} {
			if d := delay(attempt); d <= 0 || d > maxDelay {
				t.Fatalf("%v after attempt %d", d, attempt)
			}
		}
	}
}
