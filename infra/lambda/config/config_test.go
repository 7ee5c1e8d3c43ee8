package config_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/infra/lambda/config"
)

// good is an environment in which every function starts.
func good() map[string]string {
	return map[string]string{
		"AWS_REGION": "eu-west-1", "PARLEY_EVENTS_TABLE": "parley-events", "PARLEY_VIEWS_TABLE": "parley-views",
		"PARLEY_BUS": "parley", "PARLEY_ISSUER": "https://issuer.example/", "PARLEY_AUDIENCE": "parley",
		"PARLEY_JWKS":              "https://issuer.example/jwks",
		"PARLEY_CONNECTIONS_TABLE": "parley-connections", "PARLEY_SOCKETS": "https://abc.execute-api.eu-west-1.amazonaws.com/live",
		"PARLEY_CURSOR_KEY":      "0123456789abcdef0123456789abcdef",
		"PARLEY_KEYS_TABLE":      "parley-keys",
		"PARLEY_KMS_KEY":         "mrk-0123456789abcdef0123456789abcdef",
		"PARLEY_JOB_QUEUE":       "https://sqs.eu-west-1.amazonaws.com/123456789012/parley-jobs",
		"PARLEY_REPLAY_QUEUE":    "https://sqs.eu-west-1.amazonaws.com/123456789012/parley-replays",
		"PARLEY_STREAM_FUNCTION": "parley-stream",
	}
}

func read(handler string, environment map[string]string) (config.Config, error) {
	return config.Read(handler, func(name string) string { return environment[name] })
}

func TestDefaults(t *testing.T) {
	for _, f := range config.Functions {
		c, err := read(f, good())
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		if c.Function != f || c.Region != "eu-west-1" || c.LogLevel != slog.LevelInfo || c.OwnOnly {
			t.Errorf("%s: %+v", f, c)
		}
	}
	if c, _ := read(config.Command, good()); c.Rate != 50 || c.Contacts != 100 {
		t.Errorf("the rate is %d, the contacts an hour %d", c.Rate, c.Contacts)
	}
}

func TestSettings(t *testing.T) {
	environment := good()
	environment["PARLEY_PUBLISH"], environment["PARLEY_LOG_LEVEL"] = "own", "debug"
	if c, err := read(config.Stream, environment); err != nil || !c.OwnOnly || c.LogLevel != slog.LevelDebug {
		t.Errorf("%+v, %v", c, err)
	}
	environment["PARLEY_GRACE"] = "3m"
	if c, err := read(config.Worker, environment); err != nil || c.Grace != 3*time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
	environment["PARLEY_BEATS"] = "100"
	for _, f := range []string{config.Beat, config.Health, config.Operate} {
		if c, _ := read(f, good()); c.Beats != 8 {
			t.Errorf("%s has %d streams of heartbeats", f, c.Beats)
		}
		if c, err := read(f, environment); err != nil || c.Beats != 100 {
			t.Errorf("%s: %+v, %v", f, c, err)
		}
	}
	environment["PARLEY_RATE"] = "0"
	if c, err := read(config.Command, environment); err != nil || c.Rate != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// A key of KMS goes by any of its names; who neither seals nor opens knows none.
func TestKeys(t *testing.T) {
	for _, name := range []string{
		"mrk-0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdef", "alias/parley/prod_keys",
		"arn:aws:kms:eu-west-1:123456789012:key/mrk-0123456789abcdef0123456789abcdef",
		"arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/parley",
	} {
		environment := good()
		environment["PARLEY_KMS_KEY"] = name
		for _, f := range config.Functions {
			c, err := read(f, environment)
			opens := f != config.Worker && f != config.Health && f != config.Beat
			if err != nil || (c.KMSKey == name) != opens || (c.KeysTable == "parley-keys") != opens {
				t.Errorf("%s with %s: %+v, %v", f, name, c, err)
			}
		}
	}
}

// Where nothing is set, all that must be is named at once, and nothing else.
func TestMissing(t *testing.T) {
	for _, f := range config.Functions {
		_, err := read(f, nil)
		if err == nil {
			t.Errorf("%s starts on nothing", f)
			continue
		}
		for _, v := range config.Variables {
			needed := v.Needed(f)
			if strings.Contains(err.Error(), v.Name+" is not set: "+v.Meaning) != needed {
				t.Errorf("%s: needs %s: %t, and the error is %v", f, v.Name, needed, err)
			}
		}
	}
}

// Each value is checked, and the error names the variable and never the others.
func TestWrong(t *testing.T) {
	wrong := map[string][]string{
		"AWS_REGION":               {"a/b", strings.Repeat("x", 100)},
		"PARLEY_EVENTS_TABLE":      {"ab", "a b c", "täble", strings.Repeat("x", 256)},
		"PARLEY_VIEWS_TABLE":       {"ab"},
		"PARLEY_PUBLISH":           {"none", "ALL"},
		"PARLEY_SOCKETS":           {"wss://abc.execute-api.eu-west-1.amazonaws.com/live", "live", "https:///live"},
		"PARLEY_CONNECTIONS_TABLE": {"ab"},
		"PARLEY_ISSUER":            {"issuer.example", "ftp://issuer.example", ":"},
		"PARLEY_JWKS":              {"file:///etc/passwd", "https://"},
		"PARLEY_LEEWAY":            {"60", "-1s", "11m"},
		"PARLEY_CURSOR_KEY":        {"too short"},
		"PARLEY_KEYS_TABLE":        {"ab"},
		"PARLEY_KMS_KEY":           {"mrk-0123", "alias/", "alias/par ley", "key/mrk-0123456789abcdef0123456789abcdef", "arn:aws:s3:::bucket", "arn:aws:kms:eu-west-1:123456789012:key/"},
		"PARLEY_RATE":              {"-1", "many", "1.5"},
		"PARLEY_CONTACTS":          {"-1", "many", "1.5"},
		"PARLEY_BEATS":             {"0", "101", "-1", "many"},
		"PARLEY_LOG_LEVEL":         {"loud", "INFO+2"},
		"PARLEY_JOB_QUEUE":         {"parley-jobs", "arn:aws:sqs:eu-west-1:123456789012:parley-jobs"},
		"PARLEY_REPLAY_QUEUE":      {"parley-replays"},
		"PARLEY_STREAM_FUNCTION":   {"arn:aws:lambda:eu-west-1:123456789012:function:parley", strings.Repeat("x", 65)},
		"PARLEY_GRACE":             {"70", "1s", "2h", "-3s"},
	}
	for name, values := range wrong {
		for _, value := range values {
			environment := good()
			environment[name] = value
			for _, v := range config.Variables {
				if v.Name != name {
					continue
				}
				_, err := read(v.Functions[0], environment)
				if err == nil || !strings.HasPrefix(err.Error(), name+" (") || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s=%q: %v", name, value, err)
				}
			}
		}
	}
}

// The stream function delivers to sockets if all variables for it are set, and starts without them.
func TestPushOrNot(t *testing.T) {
	for _, tt := range []struct {
		without []string
		starts  bool
	}{
		{nil, true},
		{[]string{"PARLEY_SOCKETS", "PARLEY_CONNECTIONS_TABLE"}, true},
		{[]string{"PARLEY_SOCKETS"}, false},
		{[]string{"PARLEY_CONNECTIONS_TABLE"}, false},
		{[]string{"PARLEY_CURSOR_KEY"}, false},
	} {
		environment := good()
		for _, name := range tt.without {
			delete(environment, name)
		}
		c, err := read(config.Stream, environment)
		if (err == nil) != tt.starts || err != nil && !strings.Contains(err.Error(), "PARLEY_CONNECTIONS_TABLE and PARLEY_SOCKETS must both be set") {
			t.Errorf("without %v: %v", tt.without, err)
		}
		if err == nil && (c.Sockets == "") != (tt.without != nil) {
			t.Errorf("without %v: %+v", tt.without, c)
		}
		if _, err := read(config.Live, environment); (err == nil) != (tt.without == nil) {
			t.Errorf("live without %v: %v", tt.without, err)
		}
	}
}

func TestHandler(t *testing.T) {
	for _, handler := range []string{"", "bootstrap", "COMMAND"} {
		_, err := read(handler, good())
		if err == nil || !strings.Contains(err.Error(), "_HANDLER") || !strings.Contains(err.Error(), "command, query, health, stream, live, beat, operate, worker, replayer") {
			t.Errorf("_HANDLER=%q: %v", handler, err)
		}
	}
}

// What functions and metrics the tables speak of exist, and no name is given twice.
func TestTables(t *testing.T) {
	seen := map[string]bool{}
	check := func(name, meaning string, functions []string) {
		if name == "" || meaning == "" || len(functions) == 0 || seen[name] {
			t.Errorf("%q is incomplete or there twice", name)
		}
		seen[name] = true
		for _, f := range functions {
			if !slices.Contains(config.Functions, f) {
				t.Errorf("%s speaks of a function %q", name, f)
			}
		}
	}
	for _, v := range config.Variables {
		check(v.Name, v.Meaning, v.Functions)
	}
	for _, m := range config.Metrics {
		check(m.Name, m.Meaning, m.Functions)
	}
}
