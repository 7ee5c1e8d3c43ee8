package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"parley/functions/stream"
)

// at is the configuration of clients of a test's own server.
func at(url string) aws.Config {
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(url), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
}

func someEntries(n int) []stream.Entry {
	entries := make([]stream.Entry, n)
	for i := range entries {
		entries[i] = stream.Entry{
			Source: "parley", DetailType: "message.posted", Time: time.UnixMilli(1_700_000_000_000),
			Detail: json.RawMessage(fmt.Sprintf(`{"id":"%d","text":"<&> 👋"}`, i)),
		}
	}
	return entries
}

func TestPublish(t *testing.T) {
	double := newEventBridge(t)
	b, err := openBus(t.Context(), at(double.url), "parley")
	if err != nil {
		t.Fatal(err)
	}
	double.set(func(e busEntry) string {
		if e.id() == "1" {
			return "ThrottlingException"
		}
		return ""
	}, nil)
	entries := someEntries(3)
	refused, err := b.Publish(t.Context(), entries)
	if err != nil || len(refused) != 3 || refused[0] != nil || refused[2] != nil ||
		refused[1] == nil || !strings.Contains(refused[1].Error(), "ThrottlingException") {
		t.Fatalf("refused %v, error %v", refused, err)
	}
	for i, e := range double.entries() {
		if want := entries[2*i]; e.Source != want.Source || e.DetailType != want.DetailType || e.Detail != string(want.Detail) || e.Time != 1_700_000_000 {
			t.Errorf("on the bus is %+v, want %+v", e, want)
		}
	}
}

func TestPublishFails(t *testing.T) {
	double := newEventBridge(t)
	b, err := openBus(t.Context(), at(double.url), "parley")
	if err != nil {
		t.Fatal(err)
	}
	double.set(nil, func(int) bool { return true })
	if refused, err := b.Publish(t.Context(), someEntries(1)); err == nil || refused != nil {
		t.Errorf("a bus that is away: %v, %v", refused, err)
	}
	double.set(nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if refused, err := b.Publish(ctx, someEntries(1)); err == nil || refused != nil {
		t.Errorf("a context that has ended: %v, %v", refused, err)
	}
}

func TestOpenBus(t *testing.T) {
	double := newEventBridge(t)
	if _, err := openBus(t.Context(), at(double.url), "parlay"); err == nil || err.Error() != `there is no event bus "parlay" in this region` {
		t.Error(err)
	}
	if _, err := openBus(t.Context(), at("http://127.0.0.1:1"), "parley"); err == nil || !strings.Contains(err.Error(), "look up") {
		t.Error(err)
	}
}
