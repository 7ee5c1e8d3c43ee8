// Package config is the one table of the functions in the Lambda binary: their names, as _HANDLER
// gives them, and the environment variables that each reads. The binary starts by it; a test
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

	"parley/events"
)

// The names of the functions.
const (
	Command = "command" // HTTP: append
	Query   = "query"   // HTTP: ask
	Health  = "health"  // HTTP: GET /health
	Stream  = "stream"  // records of the event table's stream
	Beat    = "beat"    // once a minute: says that the region is there
)

// Functions are the names of all functions.
var Functions = []string{Command, Query, Health, Stream, Beat}

// Variable is an environment variable that the binary reads.
type Variable struct {
	Name      string
	Functions []string // that read it
	Default   string   // what holds where it is not set; "" if it must be set
	Meaning   string   // what it is, for whoever has it wrong
	set       func(*Config, string) error
}

// Config is what the environment says.
type Config struct {
	Function    string // one of Functions
	Region      string // the name of the region in events
	EventsTable string
	ViewsTable  string
	Bus         string
	OwnOnly     bool // publish only what this region accepted
	Issuer      string
	Audience    string
	JWKS        string
	CursorKey   [sha256.Size]byte
	Rate        int // commands a second for each user and process; 0: no limit
	LogLevel    slog.Level
}

var (
	all  = Functions
	http = []string{Command, Query}
)

// Variables are all variables the binary reads. AWS_REGION is set by Lambda.
var Variables = []Variable{
	{"AWS_REGION", all, "", "the AWS region; Lambda sets it", func(c *Config, text string) error {
		c.Region = text
		return events.ValidateRegion("region", text)
	}},
	{"PARLEY_EVENTS_TABLE", all, "", "the name of the event table", func(c *Config, text string) error {
		c.EventsTable = text
		return tableName(text)
	}},
	{"PARLEY_VIEWS_TABLE", []string{Command, Query, Health, Stream}, "", "the name of this region's table of views", func(c *Config, text string) error {
		c.ViewsTable = text
		return tableName(text)
	}},
	{"PARLEY_BUS", []string{Stream}, "", "the name of this region's event bus", func(c *Config, text string) error {
		c.Bus = text
		return nil
	}},
	{"PARLEY_PUBLISH", []string{Stream}, "all", `"all" publishes every event on this region's bus, "own" only what this region accepted`, func(c *Config, text string) error {
		c.OwnOnly = text == "own"
		return oneOf(text, "all", "own")
	}},
	{"PARLEY_ISSUER", http, "", "the iss claim of the tokens that are taken, a URL", func(c *Config, text string) error {
		c.Issuer = text
		return httpURL(text)
	}},
	{"PARLEY_AUDIENCE", http, "", "the aud claim of the tokens that are taken", func(c *Config, text string) error {
		c.Audience = text
		return nil
	}},
	{"PARLEY_JWKS", http, "", "the URL of the issuer's keys, a JWKS", func(c *Config, text string) error {
		c.JWKS = text
		return httpURL(text)
	}},
	{"PARLEY_CURSOR_KEY", http, "", "a secret of 32 characters or more that all regions share: it makes the cursors of one good in all", func(c *Config, text string) error {
		if len(text) < 32 {
			return errors.New("must have 32 characters or more")
		}
		c.CursorKey = sha256.Sum256([]byte(text))
		return nil
	}},
	{"PARLEY_RATE", http, "50", "commands a second that one user may give, 0 for no limit", func(c *Config, text string) (err error) {
		c.Rate, err = strconv.Atoi(text)
		if err != nil || c.Rate < 0 {
			return errors.New("must be a whole number from 0")
		}
		return nil
	}},
	{"PARLEY_LOG_LEVEL", all, "info", "what is logged: this level and above", func(c *Config, text string) error {
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
			errs = append(errs, fmt.Errorf("%s is not set: %s", v.Name, v.Meaning))
		} else if err := v.set(&c, text); err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): %w", v.Name, v.Meaning, err))
		}
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
