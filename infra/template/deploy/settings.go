package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
)

// settings are what the command line says.
type settings struct {
	stage   string
	regions []string
	remove  string // a region to be removed, or ""
	dryRun  bool

	strong     bool
	warmWrites int

	issuer, audience, jwks string
	origins                []string
	domain, zone           string
	liveDomain             string // of the sockets
	checkEvery             int    // seconds between health checks

	userRate          int // commands a second for each user; 0: no limit
	apiRate, apiBurst int
	publish           string
	batchWindow       time.Duration

	logLevel             string
	logDays, archiveDays int
	alarmTopic           string
	example              bool
}

// The defaults of flags that have one.
const (
	defaultUserRate    = 50
	defaultAPIRate     = 1000
	defaultAPIBurst    = 2000
	defaultCheckEvery  = 30
	defaultLogDays     = 30
	defaultArchiveDays = 30
)

// jwksPath is where most providers, Cognito among them, publish their keys below the issuer.
const jwksPath = "/.well-known/jwks.json"

// parse reads the command line. Its error names every flag that is wrong.
func parse(args []string) (settings, error) {
	var s settings
	var regions, origins, consistency string
	f := flag.NewFlagSet("deploy", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&s.stage, "stage", "", "")
	f.StringVar(&regions, "regions", "", "")
	f.StringVar(&s.remove, "remove", "", "")
	f.BoolVar(&s.dryRun, "dry-run", false, "")
	f.StringVar(&consistency, "consistency", "eventual", "")
	f.IntVar(&s.warmWrites, "warm-writes", 0, "")
	f.StringVar(&s.issuer, "issuer", "", "")
	f.StringVar(&s.audience, "audience", "", "")
	f.StringVar(&s.jwks, "jwks", "", "")
	f.StringVar(&origins, "origins", "", "")
	f.StringVar(&s.domain, "domain", "", "")
	f.StringVar(&s.zone, "zone", "", "")
	f.StringVar(&s.liveDomain, "live-domain", "", "")
	f.IntVar(&s.checkEvery, "check-every", defaultCheckEvery, "")
	f.IntVar(&s.userRate, "rate", defaultUserRate, "")
	f.IntVar(&s.apiRate, "api-rate", defaultAPIRate, "")
	f.IntVar(&s.apiBurst, "api-burst", defaultAPIBurst, "")
	f.StringVar(&s.publish, "publish", "all", "")
	f.Func("batch-window", "", func(text string) (err error) {
		if s.batchWindow, err = time.ParseDuration(text); err != nil {
			return errors.New("it must be a duration such as 2s")
		}
		return nil
	})
	f.StringVar(&s.logLevel, "log", "info", "")
	f.IntVar(&s.logDays, "log-days", defaultLogDays, "")
	f.IntVar(&s.archiveDays, "archive-days", defaultArchiveDays, "")
	f.StringVar(&s.alarmTopic, "alarm-topic", "", "")
	f.BoolVar(&s.example, "example", true, "")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("%q is no flag and nothing else is taken", f.Arg(0))
	}
	s.regions, s.origins = list(regions), list(origins)
	s.strong = consistency == "strong"
	if s.jwks == "" {
		s.jwks = strings.TrimSuffix(s.issuer, "/") + jwksPath
	}
	if s.liveDomain == "" && s.domain != "" {
		s.liveDomain = "live." + s.domain
	}
	return s, errors.Join(oneOf("-consistency", consistency, "eventual", "strong"), s.check())
}

// list splits what has commas between.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
