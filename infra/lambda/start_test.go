package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"parley/events/dynamolocal"
	"parley/infra/lambda/config"
)

// failStart starts the binary, which must fail, and returns what it says: one line of JSON.
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

// Everything that is wrong is named at once.
func TestWrongConfiguration(t *testing.T) {
	for _, f := range config.Functions {
		said := failStart(t, "_HANDLER="+f, "PARLEY_LOG_LEVEL=loud", "PARLEY_RATE=-1")
		for _, v := range config.Variables {
			spoiled := v.Name == "PARLEY_LOG_LEVEL" || v.Name == "PARLEY_RATE"
			wrong := v.Needed(f) || spoiled && slices.Contains(v.Functions, f)
			if strings.Contains(said, v.Name) != wrong {
				t.Errorf("%s, of which %s is wrong: %t, says %s", f, v.Name, wrong, said)
			}
		}
	}
	if said := failStart(t); !strings.Contains(said, "_HANDLER") {
		t.Error(said)
	}
}

// What is configured is looked at: a bus that is not there would swallow every event.
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
		{config.Live, "PARLEY_JWKS=http://127.0.0.1:1/", "PARLEY_JWKS: fetch the JWKS"},
		{config.Command, "PARLEY_JWKS=http://127.0.0.1:1/", "PARLEY_JWKS: fetch the JWKS"},
		{config.Query, "PARLEY_JWKS=" + c.bus.url, "PARLEY_JWKS: fetch the JWKS"},
	} {
		if said := failStart(t, append(c.environment(tt.function, place), tt.setting)...); !strings.Contains(said, tt.says) {
			t.Errorf("%s with %s says %s", tt.function, tt.setting, said)
		}
	}
}
