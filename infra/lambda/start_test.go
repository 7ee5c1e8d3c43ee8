package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"parley/events/dynamolocal"
	"parley/functions/api"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
)

// failStart starts the binary, which must fail, and returns the error that it logs as JSON.
func failStart(t *testing.T, env ...string) string {
	t.Helper()
	path := builtBinary(t)
	cmd := exec.Command(path)
	cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=127.0.0.1:1"}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // its code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 1 || stdout.Len() > 0 {
		t.Errorf("it exits with %d and writes %s", code, &stdout)
	}
	var line struct{ Level, Message, Function, Error string }
	if err := json.Unmarshal(stderr.Bytes(), &line); err != nil || line.Level != "ERROR" || line.Message != "cannot start" {
		t.Fatalf("it says %s: %v", &stderr, err)
	}
	return line.Error
}

// TestWrongConfiguration: the error names everything that is wrong.
func TestWrongConfiguration(t *testing.T) {
	for _, f := range config.Functions {
		said := failStart(t, "_HANDLER="+f, "PARLEY_LOG_LEVEL=loud", "PARLEY_RATE=-1")
		for _, v := range config.Variables {
			spoiled := v.Name == "PARLEY_LOG_LEVEL" || v.Name == "PARLEY_RATE"
			wrong := v.Needed(f) || spoiled && slices.Contains(v.Functions, f)
			if strings.Contains(said, v.Name) != wrong {
				t.Errorf("%s: %s is wrong: %t, the error is %s", f, v.Name, wrong, said)
			}
		}
	}
	if said := failStart(t); !strings.Contains(said, "_HANDLER") {
		t.Error(said)
	}
}

// TestMissingParts: the start fails without a part: a bus that does not exist would drop every event.
func TestMissingParts(t *testing.T) {
	c := newServices(t)
	place := dynamolocal.Endpoint{URL: "http://127.0.0.1:1", Key: "key"}
	for _, tt := range []struct{ function, setting, says string }{
		{config.Stream, "PARLEY_BUS=parlay", `PARLEY_BUS: there is no event bus "parlay" in this region`},
		{config.Beat, "AWS_SECRET_ACCESS_KEY=", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"},
		{config.Stream, "AWS_ENDPOINT_URL_EVENTBRIDGE=http://127.0.0.1:1", "PARLEY_BUS: look up the event bus"},
		{config.Replayer, "PARLEY_BUS=parlay", `PARLEY_BUS: there is no event bus "parlay" in this region`},
		{config.Operate, "PARLEY_JOB_QUEUE=jobs", "PARLEY_JOB_QUEUE (the URL of the SQS queue of rebuilds, audits and drops): must be a URL"},
		{config.Worker, "PARLEY_GRACE=1", "PARLEY_GRACE"},
		{config.Stream, "PARLEY_SOCKETS=", "PARLEY_CONNECTIONS_TABLE and PARLEY_SOCKETS must both be set"},
		{config.Live, "PARLEY_SOCKETS=", "PARLEY_SOCKETS is not set: the URL of the WebSocket API's stage"},
	} {
		if said := failStart(t, append(c.environment(tt.function, place), tt.setting)...); !strings.Contains(said, tt.says) {
			t.Errorf("%s with %s says %s", tt.function, tt.setting, said)
		}
	}
}

// TestIssuerDown: a function starts while the issuer's keys cannot be fetched, and has its clients retry.
func TestIssuerDown(t *testing.T) {
	c := newServices(t)
	environment := append(c.environment(config.Query, dynamolocal.Endpoint{URL: "http://127.0.0.1:1", Key: "key"}), "PARLEY_JWKS=http://127.0.0.1:1/")
	f := awstest.NewFunction(t, builtBinary(t), environment)
	r := httptest.NewRequest("GET", "/v1/rooms", nil)
	r.Header.Set("Authorization", "Bearer "+c.issuer.Token("ada"))
	text, err := f.Invoke(awstest.HTTPEvent(t, r, true))
	if err != nil || !strings.Contains(string(text), `"statusCode":503`) || !strings.Contains(string(text), "issuer_unavailable") {
		t.Errorf("it answers %s, %v; it says %s", text, err, f.Logs.Lines())
	}
}

// maxBinary limits the binary, which a cold start loads, in bytes.
const maxBinary = 15 << 20

func TestBinaryIsSmall(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"arm64", "amd64"} {
		path, err := build(arch)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MiB", arch, float64(info.Size())/(1<<20))
		if info.Size() >= maxBinary {
			t.Errorf("the binary for %s has %d bytes", arch, info.Size())
		}
	}
}

// TestBinaryLinks: the binary has nothing for local use or for tests.
func TestBinaryLinks(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-tags", "lambda.norpc", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(text))
	if len(deps) < 100 {
		t.Fatalf("there are only %d packages", len(deps))
	}
	for _, dep := range deps {
		if strings.Contains(dep, "pebble") || strings.HasPrefix(dep, "testing") || strings.Contains(dep, "dynamolocal") {
			t.Errorf("%s is linked", dep)
		}
	}
}

// BenchmarkColdStart measures from exec of the binary until a function has answered its first
// invocation, all services being on this machine. On AWS a new sandbox and the loading of the code
// come on top, and each call to a service takes as long as it takes there.
func BenchmarkColdStart(b *testing.B) {
	c := newCloud(b, nil)
	event := func(method, path, body string, scopes ...string) []byte {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+c.issuer.Token("ada", scopes...))
		r.Header.Set("Content-Type", "application/json")
		return awstest.HTTPEvent(b, r, true)
	}
	connect := httptest.NewRequest("GET", "/", nil)
	connect.Header.Set("Authorization", "Bearer "+c.issuer.Token("ada"))
	payloads := map[string][]byte{
		config.Command: event("POST", "/v1/rooms", `{"name":"Hello"}`),
		config.Query:   event("GET", "/v1/rooms", ""),
		config.Health:  event("GET", "/health", ""),
		config.Operate: event("GET", "/v1/ops/status", "", api.ScopeOperator),
	}
	if _, err := c.functions[config.Command].Invoke(payloads[config.Command]); err != nil {
		b.Fatal(err)
	}
	payloads[config.Stream] = awstest.Payload(b, c.stream.Read(0))
	var err error
	if payloads[config.Live], err = json.Marshal(awstest.ConnectEvent("one=", connect)); err != nil {
		b.Fatal(err)
	}
	for _, name := range config.Functions {
		payload, ok := payloads[name]
		if !ok {
			payload = []byte(`{"detail-type":"Scheduled Event"}`)
		}
		f := c.functions[name]
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				f.Stop()
				b.StartTimer()
				text, err := f.Invoke(payload)
				if err != nil || bytes.Contains(text, []byte(`"statusCode":4`)) || bytes.Contains(text, []byte(`"statusCode":5`)) {
					b.Fatalf("%s %v", text, err)
				}
			}
		})
	}
}
