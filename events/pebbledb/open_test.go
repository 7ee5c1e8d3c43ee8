package pebbledb_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"parley/events/pebbledb"
)

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	l := pebbledb.NewLogger(slog.New(slog.NewTextHandler(&out, nil)))
	l.Infof("chatter")
	if out.Len() > 0 {
		t.Errorf("logged %s", out.String())
	}
	l.Errorf("trouble %d", 1)
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "the end 2") {
			t.Errorf("fatal error panics with %v", p)
		}
		if !strings.Contains(out.String(), "trouble 1") || !strings.Contains(out.String(), "the end 2") {
			t.Errorf("logged %s", out.String())
		}
	}()
	l.Fatalf("the end %d", 2)
}
