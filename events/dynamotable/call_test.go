package dynamotable_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"parley/events/dynamotable"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := dynamotable.Sleep(t.Context(), time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("waited %v, error %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := dynamotable.Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the context", err)
		}
	})
}
