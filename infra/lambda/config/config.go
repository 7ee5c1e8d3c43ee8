// Package config is the one table of the functions in the Lambda binary: their names, as _HANDLER
// gives them, the environment variables that each reads, and what each may do. The binary starts by it; a test
// holds the template against it.
package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/events"
)

// The names of the functions.
const (
	Command = "command" // HTTP: append
	Query   = "query"   // HTTP: ask
	Health  = "health"  // HTTP: GET /health
	Stream  = "stream"  // records of the event table's stream
	Live    = "live"    // WebSocket: connect, subscribe, send, catch up
	Beat    = "beat"    // once a minute: says that the region is there

	Operate  = "operate"  // HTTP: what operators ask for
	Worker   = "worker"   // the queue of jobs: rebuilds, audits, drops
	Replayer = "replayer" // the queue of replays, which alone may publish
)

// Functions are the names of all functions.
var Functions = []string{Command, Query, Health, Stream, Live, Beat, Operate, Worker, Replayer}

// Variable is an environment variable that the binary reads.
type Variable struct {
	Name      string
	Functions []string // that read it
	Without   []string // those of them that do without it
	Default   string   // what holds where it is not set; "" if it must be set
	Meaning   string   // what it is, for whoever has it wrong
	set       func(*Config, string) error
}

// Needed reports whether a function does not start where the variable is not set.
func (v Variable) Needed(function string) bool {
	return v.Default == "" && slices.Contains(v.Functions, function) && !slices.Contains(v.Without, function)
}

// Config is what the environment says.
type Config struct {
	Function    string // one of Functions
	Region      string // the name of the region in events
	EventsTable string
	ViewsTable  string
	Connections string // the table of connections; "" if nothing is pushed
	Sockets     string // where the gateway's sockets are posted to; "" if nothing is pushed
	Bus         string
	OwnOnly     bool // publish only what this region accepted
	Issuer      string
	Audience    string
	JWKS        string
	CursorKey   [sha256.Size]byte
	KeysTable   string // the table of users' data keys; "" if this function neither seals nor opens
	KMSKey      string // what wraps them
	Rate        int    // commands a second for each user and process; 0: no limit

	JobQueue       string        // the URL of the queue of jobs that publish nothing
	ReplayQueue    string        // that of the queue of replays
	StreamFunction string        // the name of the function that handles again what was parked
	Grace          time.Duration // until every process has seen that a generation is being built

	LogLevel slog.Level
}

// DefaultGrace is the grace of a rebuild: a batch of the stream function takes up to 60 seconds.
const DefaultGrace = 70 * time.Second

// Silent is how long nothing is heard of a job until its message counts as lost: longer than a
// queue hides a message that is being handled, or has failed.
const Silent = 2 * time.Minute

// Pushes reports whether those are told what happens who are connected.
func (c Config) Pushes() bool {
	return c.Connections != "" && c.Sockets != "" && c.CursorKey != [sha256.Size]byte{}
}

var (
	all  = Functions
	http = []string{Command, Query, Live, Operate} // live serves the API to itself
	push = []string{Live, Stream}
	keys = []string{Command, Query, Live, Stream, Operate, Replayer} // the edges: rebuild and audit never open
)

// Variables are all variables the binary reads. AWS_REGION is set by Lambda.
var Variables = []Variable{
	{"AWS_REGION", all, nil, "", "the AWS region; Lambda sets it", func(c *Config, text string) error {
		c.Region = text
		return events.ValidateRegion("region", text)
	}},
	{"PARLEY_EVENTS_TABLE", all, nil, "", "the name of the event table", func(c *Config, text string) error {
		c.EventsTable = text
		return tableName(text)
	}},
	{"PARLEY_VIEWS_TABLE", []string{Command, Query, Health, Stream, Live, Operate, Worker, Replayer}, nil, "", "the name of this region's table of views", func(c *Config, text string) error {
		c.ViewsTable = text
		return tableName(text)
	}},
	{"PARLEY_CONNECTIONS_TABLE", push, []string{Stream}, "", "the name of this region's table of connections", func(c *Config, text string) error {
		c.Connections = text
		return tableName(text)
	}},
	{"PARLEY_SOCKETS", push, []string{Stream}, "", "the URL of the WebSocket API's stage, https://<api>.execute-api.<region>.amazonaws.com/<stage>", func(c *Config, text string) error {
		c.Sockets = text
		return httpURL(text)
	}},
	{"PARLEY_BUS", []string{Stream, Replayer}, nil, "", "the name of this region's event bus", func(c *Config, text string) error {
		c.Bus = text
		return nil
	}},
	{"PARLEY_PUBLISH", []string{Stream}, nil, "all", `"all" publishes every event on this region's bus, "own" only what this region accepted`, func(c *Config, text string) error {
		c.OwnOnly = text == "own"
		return oneOf(text, "all", "own")
	}},
	{"PARLEY_ISSUER", http, nil, "", "the iss claim of the tokens that are taken, a URL", func(c *Config, text string) error {
		c.Issuer = text
		return httpURL(text)
	}},
	{"PARLEY_AUDIENCE", http, nil, "", "the aud claim of the tokens that are taken", func(c *Config, text string) error {
		c.Audience = text
		return nil
	}},
	{"PARLEY_JWKS", http, nil, "", "the URL of the issuer's keys, a JWKS", func(c *Config, text string) error {
		c.JWKS = text
		return httpURL(text)
	}},
	{"PARLEY_CURSOR_KEY", append(slices.Clone(http), Stream), []string{Stream}, "", "a secret of 32 characters or more that all regions share: it makes the cursors of one good in all", func(c *Config, text string) error {
		if len(text) < 32 {
			return errors.New("must have 32 characters or more")
		}
		c.CursorKey = sha256.Sum256([]byte(text))
		return nil
	}},
	{"PARLEY_KEYS_TABLE", keys, nil, "", "the name of the table of users' data keys", func(c *Config, text string) error {
		c.KeysTable = text
		return tableName(text)
	}},
	{"PARLEY_KMS_KEY", keys, nil, "", "the multi-Region key of KMS that wraps users' data keys: its id, alias or ARN", func(c *Config, text string) error {
		c.KMSKey = text
		return kmsKey(text)
	}},
	{"PARLEY_RATE", http, nil, "50", "commands a second that one user may give, 0 for no limit", func(c *Config, text string) (err error) {
		c.Rate, err = strconv.Atoi(text)
		if err != nil || c.Rate < 0 {
			return errors.New("must be a whole number from 0")
		}
		return nil
	}},
	{"PARLEY_JOB_QUEUE", []string{Operate, Worker}, nil, "", "the URL of the SQS queue of rebuilds, audits and drops", func(c *Config, text string) error {
		c.JobQueue = text
		return httpURL(text)
	}},
	{"PARLEY_REPLAY_QUEUE", []string{Operate, Replayer}, nil, "", "the URL of the SQS queue of replays", func(c *Config, text string) error {
		c.ReplayQueue = text
		return httpURL(text)
	}},
	{"PARLEY_STREAM_FUNCTION", []string{Operate}, nil, "", "the name of the function that handles a parked event again", func(c *Config, text string) error {
		c.StreamFunction = text
		return functionName(text)
	}},
	{"PARLEY_GRACE", []string{Worker}, nil, DefaultGrace.String(), "until every process has seen that a generation is being built: more than the stream function's timeout and a second", func(c *Config, text string) (err error) {
		c.Grace, err = time.ParseDuration(text)
		if err != nil || c.Grace < 2*time.Second || c.Grace > time.Hour {
			return errors.New("must be a time from 2s to 1h, such as 70s")
		}
		return nil
	}},
	{"PARLEY_LOG_LEVEL", all, nil, "info", "what is logged: this level and above", func(c *Config, text string) error {
		if err := oneOf(text, "debug", "info", "warn", "error"); err != nil {
			return err
		}
		return c.LogLevel.UnmarshalText([]byte(text))
	}},
}

// Read reads the configuration of the function that handler names from an environment. Its error
// names every variable that is wrong, and what it must be.
func Read(handler string, getenv func(string) string) (Config, error) {
	c := Config{Function: handler}
	if !slices.Contains(Functions, handler) {
		return c, fmt.Errorf("_HANDLER is %q; it must be one of %s", handler, strings.Join(Functions, ", "))
	}
	var errs []error
	for _, v := range Variables {
		if !slices.Contains(v.Functions, handler) {
			continue
		}
		text := getenv(v.Name)
		if text == "" {
			text = v.Default
		}
		if text == "" {
			if v.Needed(handler) {
				errs = append(errs, fmt.Errorf("%s is not set: %s", v.Name, v.Meaning))
			}
		} else if err := v.set(&c, text); err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): %w", v.Name, v.Meaning, err))
		}
	}
	if handler == Stream && len(errs) == 0 && (c.Pushes() != (c.Connections != "") || c.Pushes() != (c.Sockets != "")) {
		errs = append(errs, errors.New("PARLEY_CONNECTIONS_TABLE and PARLEY_SOCKETS must both be set, and PARLEY_CURSOR_KEY with them, to push what happens; or neither"))
	}
	return c, errors.Join(errs...)
}

func tableName(text string) error {
	ok := !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r)
	})
	if !ok || len(text) < 3 || len(text) > 255 {
		return errors.New("must have 3 to 255 characters of A-Z a-z 0-9 . _ -")
	}
	return nil
}

func functionName(text string) error {
	bad := strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-", r)
	})
	if bad || text == "" || len(text) > 64 {
		return errors.New("must have 1 to 64 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}

// kmsKey refuses what names no key of KMS: by an id, alias/<name>, or the ARN of either.
func kmsKey(text string) error {
	name, arn := text, strings.Split(text, ":")
	if len(arn) == 6 && arn[0] == "arn" && arn[2] == "kms" {
		var is bool
		if name, is = strings.CutPrefix(arn[5], "key/"); !is {
			name = arn[5]
		}
	}
	id, _ := strings.CutPrefix(name, "alias/")
	bad := strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_/-", r)
	})
	if bad || id == "" || id == name && (strings.Contains(id, "/") || len(id) < 36) {
		return errors.New("must be such as mrk-0123456789abcdef0123456789abcdef, alias/parley or arn:aws:kms:…")
	}
	return nil
}

func httpURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return errors.New("must be a URL such as https://example.com")
	}
	return nil
}

func oneOf(text string, allowed ...string) error {
	if !slices.Contains(allowed, text) {
		return errors.New("must be one of " + strings.Join(allowed, ", "))
	}
	return nil
}
