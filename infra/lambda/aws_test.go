package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/events/dynamolog"
	"parley/functions/stream"
	"parley/infra/lambda/awstest"
)

// TestCloudConfig: calls are signed with the credentials that Lambda sets, including the session token.
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
	if _, err := events.Get(t.Context(), dynamolog.New(cfg, eventsTable), events.UserStream("ada"), events.ID{}); err == nil {
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
	double := awstest.NewBus(t)
	b, err := openBus(t.Context(), awstest.Config(double.URL), "parley")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{"1": "ThrottlingException", "3": "MalformedDetail", "4": "InternalFailure"}
	double.Set(func(e awstest.Entry) string { return codes[e.ID()] }, nil)
	entries := someEntries(5)
	refused, err := b.Publish(t.Context(), entries)
	if err != nil || len(refused) != 5 || refused[0] != nil || refused[2] != nil {
		t.Fatalf("refused %v, error %v", refused, err)
	}
	for i, passes := range map[int]bool{1: true, 3: false, 4: true} {
		if refused[i] == nil || errors.Is(refused[i], stream.ErrBusy) != passes || !strings.Contains(refused[i].Error(), codes[fmt.Sprint(i)]) {
			t.Errorf("the refusal %s is %v", codes[fmt.Sprint(i)], refused[i])
		}
	}
	for i, e := range double.Entries() {
		if want := entries[2*i]; e.Source != want.Source || e.DetailType != want.DetailType || e.Detail != string(want.Detail) || e.Time != 1_700_000_000 {
			t.Errorf("on the bus is %+v, want %+v", e, want)
		}
	}
}

func TestPublishFails(t *testing.T) {
	double := awstest.NewBus(t)
	b, err := openBus(t.Context(), awstest.Config(double.URL), "parley")
	if err != nil {
		t.Fatal(err)
	}
	double.Set(nil, func(int) bool { return true })
	if refused, err := b.Publish(t.Context(), someEntries(1)); err == nil || refused != nil {
		t.Errorf("a bus that is away: %v, %v", refused, err)
	}
	double.Set(nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if refused, err := b.Publish(ctx, someEntries(1)); err == nil || refused != nil {
		t.Errorf("a context that has ended: %v, %v", refused, err)
	}
}

func TestOpenBus(t *testing.T) {
	double := awstest.NewBus(t)
	if _, err := openBus(t.Context(), awstest.Config(double.URL), "parlay"); err == nil || err.Error() != `there is no event bus "parlay" in this region` {
		t.Error(err)
	}
	if _, err := openBus(t.Context(), awstest.Config("http://127.0.0.1:1"), "parley"); err == nil || !strings.Contains(err.Error(), "look up") {
		t.Error(err)
	}
}

// wrapper returns a wrapper in a region.
func wrapper(k *awstest.KMS, region, key string) *kmsWrapper {
	cfg := awstest.Config(k.URL)
	cfg.Region = region
	return newKMS(cfg, key)
}

func TestKMS(t *testing.T) {
	k := awstest.NewKMS(t)
	checkKMS(t, wrapper(k, "eu-west-1", awstest.KeyID), wrapper(k, "us-east-1", "arn:aws:kms:us-east-1:123456789012:key/"+awstest.KeyID))
}

// checkKMS wraps a key in one region and unwraps it in another.
func checkKMS(t *testing.T, here, there *kmsWrapper) {
	t.Helper()
	const secret = "0123456789abcdef0123456789abcdef"
	wrapped, err := here.Wrap(t.Context(), "ada", []byte(secret))
	if err != nil || strings.Contains(string(wrapped), secret) {
		t.Fatalf("Wrap: %q, %v", wrapped, err)
	}
	if key, err := there.Unwrap(t.Context(), "ada", wrapped); err != nil || string(key) != secret {
		t.Errorf("Unwrap in another region: %q, %v", key, err)
	}
	wrapped[len(wrapped)-1] ^= 1
	_, damaged := there.Unwrap(t.Context(), "ada", wrapped)
	wrapped[len(wrapped)-1] ^= 1
	_, foreign := there.Unwrap(t.Context(), "bob", wrapped)
	for what, err := range map[string]error{"another user's": foreign, "damaged": damaged} {
		if err == nil || err.Error() != "unwrap a data key: the data key was not wrapped for this user with the key that PARLEY_KMS_KEY names (InvalidCiphertextException)" ||
			errors.Is(err, events.ErrUnavailable) || errors.Is(err, events.ErrThrottled) {
			t.Errorf("Unwrap of what is %s: %v", what, err)
		}
	}
}

// TestKMSRefuses: temporary errors are retried, and reported as errors of [events.Log] if they persist;
// others are reported at once, with what to check.
func TestKMSRefuses(t *testing.T) {
	k := awstest.NewKMS(t)
	w := wrapper(k, "eu-west-1", awstest.KeyID)
	wrapped, err := w.Wrap(t.Context(), "ada", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	const hint = ": check that the key that PARLEY_KMS_KEY names exists and is enabled, and that this function may use it"
	for _, tt := range []struct {
		status int
		code   string
		tries  int
		says   string
		is     error
	}{
		{http.StatusBadRequest, "ThrottlingException", kmsAttempts, "KMS answered ThrottlingException", events.ErrThrottled},
		{http.StatusInternalServerError, "KMSInternalException", kmsAttempts, "KMS answered KMSInternalException", events.ErrUnavailable},
		{http.StatusInternalServerError, "KeyUnavailableException", kmsAttempts, "KMS answered KeyUnavailableException", events.ErrUnavailable},
		{http.StatusBadRequest, "AccessDeniedException", 1, "KMS answered AccessDeniedException" + hint, nil},
		{http.StatusBadRequest, "DisabledException", 1, "KMS answered DisabledException" + hint, nil},
	} {
		k.Set(func(_ string, call int) (int, string) {
			if call < 3 {
				return tt.status, tt.code
			}
			return 0, ""
		})
		_, err := w.Wrap(t.Context(), "ada", []byte("key"))
		if (err == nil) != (tt.tries > 1) {
			t.Errorf("%s for a while: %v", tt.code, err)
		}
		k.Set(func(string, int) (int, string) { return tt.status, tt.code })
		_, unwrap := w.Unwrap(t.Context(), "ada", wrapped)
		if k.Calls("Decrypt") != tt.tries {
			t.Errorf("%s: tried %d times, want %d", tt.code, k.Calls("Decrypt"), tt.tries)
		}
		if unwrap == nil || unwrap.Error() != "unwrap a data key: "+tt.says ||
			errors.Is(unwrap, events.ErrThrottled) != (tt.is == events.ErrThrottled) ||
			errors.Is(unwrap, events.ErrUnavailable) != (tt.is == events.ErrUnavailable) {
			t.Errorf("%s: %v", tt.code, unwrap)
		}
	}
	k.Set(nil)
	if _, err := wrapper(k, "eu-west-1", "mrk-another").Wrap(t.Context(), "ada", []byte("key")); err == nil || err.Error() != "wrap a data key: KMS answered NotFoundException"+hint {
		t.Errorf("a key that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Unwrap(ctx, "ada", wrapped); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}
