package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"parley/events"
	"parley/events/dynamolog"
)

// What Lambda sets is what calls are made with: the token, too, without which the credentials of a
// role are worth nothing.
func TestCloudConfig(t *testing.T) {
	asked := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.Header:
		default: // it tries again
		}
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer server.Close()
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session",
		"AWS_ENDPOINT_URL_DYNAMODB": server.URL,
	}
	cfg, err := cloudConfig(func(name string) string { return env[name] }, inRegion, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dynamolog.New(cfg, eventsTable).Get(t.Context(), events.UserStream("ada"), events.ID{}); err == nil {
		t.Fatal("there is no error")
	}
	header := <-asked
	if signed := header.Get("Authorization"); header.Get("X-Amz-Security-Token") != "session" ||
		!strings.Contains(signed, "Credential=AKID/") || !strings.Contains(signed, "/"+inRegion+"/dynamodb/") {
		t.Errorf("it asks with %v", header)
	}
	for _, missing := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		_, err := cloudConfig(func(name string) string { return strings.TrimPrefix(env[name], env[missing]) }, inRegion, slog.Default())
		if err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, tt := range []struct {
		set           map[string]string
		service, want string
	}{
		{nil, "DynamoDB", ""},
		{map[string]string{"AWS_ENDPOINT_URL_EVENTBRIDGE": "http://a"}, "EventBridge", "http://a"},
		{map[string]string{"AWS_ENDPOINT_URL_EVENTBRIDGE": "http://a"}, "SQS", ""},
		{map[string]string{"AWS_ENDPOINT_URL_DYNAMODB_STREAMS": "http://a", "AWS_ENDPOINT_URL": "http://b"}, "DynamoDB Streams", "http://a"},
		{map[string]string{"AWS_ENDPOINT_URL": "http://b"}, "SQS", "http://b"},
	} {
		url, found, err := endpoints(func(name string) string { return tt.set[name] }).GetServiceBaseEndpoint(context.Background(), tt.service)
		if url != tt.want || found != (tt.want != "") || err != nil {
			t.Errorf("%v, %s: %q %t %v", tt.set, tt.service, url, found, err)
		}
	}
}
