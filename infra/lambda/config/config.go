// Package config has the table of the functions in the Lambda binary: their names, as _HANDLER has them,
// the environment variables that each reads, the metrics that each writes, and what each may do. The
// binary reads its configuration by it, and tests compare the template with it.
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
	"parley/functions/health"
)

// The names of the functions.
const (
	Command = "command" // HTTP: append
	Query   = "query"   // HTTP: read
	Health  = "health"  // HTTP: GET /health
	Stream  = "stream"  // records of the event table's stream
	Live    = "live"    // WebSocket: connect, subscribe, send, catch up
	Beat    = "beat"    // once a minute: appends heartbeats

	Operate  = "operate"  // HTTP: requests of operators
	Worker   = "worker"   // the queue of jobs: rebuilds, audits, drops
	Replayer = "replayer" // the queue of replays, which alone may publish
)

// Functions are the names of all functions.
var Functions = []string{Command, Query, Health, Stream, Live, Beat, Operate, Worker, Replayer}

// Variable is an environment variable that the binary reads.
type Variable struct {
	Name      string
	Functions []string // that read it
	Without   []string // those of them that start without it
	Default   string   // its value if it is not set; "" if it must be set
	Meaning   string   // what it is, for error messages
	set       func(*Config, string) error
}

// Needed reports whether a function does not start if the variable is not set.
func (v Variable) Needed(function string) bool {
	return v.Default == "" && slices.Contains(v.Functions, function) && !slices.Contains(v.Without, function)
}

// Config is the configuration of a function.
type Config struct {
	Function    string // one of Functions
	Region      string // the name of the region in events
	EventsTable string
	ViewsTable  string
	Connections string // the table of connections; "" to deliver nothing to sockets
	Sockets     string // the URL for posting to sockets; "" to deliver nothing to them
	Bus         string
	OwnOnly     bool // publish only what this region accepted
	Issuer      string
	Audience    string
	JWKS        string
	Leeway      time.Duration // by which a token may be from the future
	CursorKey   [sha256.Size]byte
	KeysTable   string // the table of users' data keys; "" if this function neither encrypts nor decrypts
	KMSKey      string // the key that wraps them
	Rate        int    // commands a second for each user and process; 0: no limit
	Contacts    int    // users that each user may newly invite or open direct rooms with in an hour; 0: no limit
	Beats       int    // to how many streams the region appends its heartbeats

	JobQueue       string        // the URL of the queue of jobs that publish nothing
	ReplayQueue    string        // that of the queue of replays
	StreamFunction string        // the name of the function that retries parked events
	Grace          time.Duration // until every process knows that a generation is being built

	LogLevel slog.Level
}

// Marks are those of all users in all regions. Their secret is derived from the key of cursors.
func (c Config) Marks() events.Marks {
	secret := sha256.Sum256(append([]byte("parley marks "), c.CursorKey[:]...))
	return events.NewMarks(secret[:])
}

// DefaultGrace is the grace of a rebuild: a batch of the stream function takes up to 60 seconds.
const DefaultGrace = 70 * time.Second

// maxLeeway bounds PARLEY_LEEWAY.
const maxLeeway = 10 * time.Minute

// Silent is how long a job is not updated until its message counts as lost: longer than a queue hides
// a message that is being handled or has failed.
const Silent = 2 * time.Minute

// Pushes reports whether the function delivers events to sockets.
func (c Config) Pushes() bool {
	return c.Connections != "" && c.Sockets != "" && c.CursorKey != [sha256.Size]byte{}
}

var (
	all  = Functions
	http = []string{Command, Query, Live, Operate}                                 // live runs commands and queries of sockets
	mint = []string{Command, Query, Live, Operate, Stream, Beat, Worker, Replayer} // stream mints nothing, but has cursors
	push = []string{Live, Stream}
	keys = []string{Command, Query, Live, Stream, Operate, Replayer} // rebuild and audit never decrypt
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
	{"PARLEY_PUBLISH", []string{Stream}, nil, "all", `"all" publishes every event on this region's bus, "own" only those that this region accepted`, func(c *Config, text string) error {
		c.OwnOnly = text == "own"
		return oneOf(text, "all", "own")
	}},
	{"PARLEY_ISSUER", http, nil, "", "the iss claim of accepted tokens, a URL", func(c *Config, text string) error {
		c.Issuer = text
		return httpURL(text)
	}},
	{"PARLEY_AUDIENCE", http, nil, "", "the aud claim of accepted tokens", func(c *Config, text string) error {
		c.Audience = text
		return nil
	}},
	{"PARLEY_JWKS", http, nil, "", "the URL of the issuer's keys, a JWKS", func(c *Config, text string) error {
		c.JWKS = text
		return httpURL(text)
	}},
	{"PARLEY_LEEWAY", http, nil, "1m0s", "how far the issuer's clock may be ahead: the claims nbf and iat may be in the future by so much", func(c *Config, text string) (err error) {
		c.Leeway, err = time.ParseDuration(text)
		if err != nil || c.Leeway < 0 || c.Leeway > maxLeeway {
			return errors.New("must be a time from 0s to 10m, such as 60s")
		}
		return nil
	}},
	{"PARLEY_CURSOR_KEY", mint, []string{Stream}, "", "a secret of 32 characters or more that all regions share: it makes the cursors and the marks of one valid in all", func(c *Config, text string) error {
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
	{"PARLEY_RATE", http, nil, "50", "commands a second that one user may send, 0 for no limit", func(c *Config, text string) (err error) {
		c.Rate, err = strconv.Atoi(text)
		if err != nil || c.Rate < 0 {
			return errors.New("must be a whole number from 0")
		}
		return nil
	}},
	{"PARLEY_CONTACTS", http, nil, "100", "users that one user may newly invite or open direct rooms with in an hour, 0 for no limit", func(c *Config, text string) (err error) {
		c.Contacts, err = strconv.Atoi(text)
		if err != nil || c.Contacts < 0 {
			return errors.New("must be a whole number from 0")
		}
		return nil
	}},
	{"PARLEY_BEATS", []string{Beat, Health, Operate}, nil, strconv.Itoa(health.DefaultStreams), "to how many streams the region appends its heartbeats, which its health check expects back", func(c *Config, text string) (err error) {
		c.Beats, err = strconv.Atoi(text)
		if err != nil || c.Beats < 1 || c.Beats > events.MaxBeatStreams {
			return fmt.Errorf("must be a whole number from 1 to %d", events.MaxBeatStreams)
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
	{"PARLEY_STREAM_FUNCTION", []string{Operate}, nil, "", "the name of the function that retries parked events", func(c *Config, text string) error {
		c.StreamFunction = text
		return functionName(text)
	}},
	{"PARLEY_GRACE", []string{Worker}, nil, DefaultGrace.String(), "until every process knows that a generation is being built: more than the stream function's timeout and a second", func(c *Config, text string) (err error) {
		c.Grace, err = time.ParseDuration(text)
		if err != nil || c.Grace < 2*time.Second || c.Grace > time.Hour {
			return errors.New("must be a time from 2s to 1h, such as 70s")
		}
		return nil
	}},
	{"PARLEY_LOG_LEVEL", all, nil, "info", "the lowest level that is logged", func(c *Config, text string) error {
		if err := oneOf(text, "debug", "info", "warn", "error"); err != nil {
			return err
		}
		return c.LogLevel.UnmarshalText([]byte(text))
	}},
}

// Read reads the configuration of the function handler from an environment. Its error names every
// variable that is wrong and what it must be.
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
		errs = append(errs, errors.New("PARLEY_CONNECTIONS_TABLE and PARLEY_SOCKETS must both be set, and PARLEY_CURSOR_KEY with them, to deliver events to sockets; or neither"))
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

// kmsKey accepts the name of a KMS key: an id, alias/<name>, or the ARN of either.
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

// Namespace is the CloudWatch namespace of all metrics. Their dimensions are Region and Function.
const Namespace = "Parley"

// Dimensions are the dimensions of every metric: the AWS region, and one of [Functions].
var Dimensions = []string{"Region", "Function"}

// The names of the metrics.
const (
	Accepted     = "Accepted"
	AcceptedLag  = "AcceptedLag"
	Projected    = "Projected"
	ProjectedLag = "ProjectedLag"
	Published    = "Published"
	PublishedLag = "PublishedLag"
	Parked       = "Parked"
	Unfinished   = "Unfinished"
	Pushed       = "Pushed"
	Unsent       = "Unsent"
	Gone         = "Gone"
)

// Metric is a metric that the binary writes, once for each invocation that has counted something.
type Metric struct {
	Name      string
	Unit      string   // as CloudWatch calls it
	Functions []string // that write it
	Meaning   string
}

// appends are the functions that append to the log, except stream.
var appends = []string{Command, Live, Beat, Operate, Worker, Replayer}

// Metrics are all metrics the binary writes.
var Metrics = []Metric{
	{Accepted, "Count", appends, "events appended to the log, without repeats"},
	{AcceptedLag, "Milliseconds", appends, "from the time in an event's id until it was in the log"},
	{Projected, "Count", []string{Stream}, "events projected into the views"},
	{ProjectedLag, "Milliseconds", []string{Stream}, "from the time in an event's id until it was in the views"},
	{Published, "Count", []string{Stream}, "events put on the bus"},
	{PublishedLag, "Milliseconds", []string{Stream}, "from the time in an event's id until it was on the bus"},
	{Parked, "Count", []string{Stream}, "events set aside because they cannot be handled"},
	{Unfinished, "Count", []string{Stream}, "batches that were not finished: their rest comes again"},
	{Pushed, "Count", []string{Stream, Live}, "frames accepted by API Gateway, including answers"},
	{Unsent, "Count", []string{Stream, Live}, "frames refused by API Gateway; their sockets are closed"},
	{Gone, "Count", []string{Stream, Live}, "frames for sockets that are closed"},
}
