package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// settings are the flags of the command line.
type settings struct {
	stage   string
	regions []string
	remove  string // a region to remove, or ""
	dryRun  bool

	consistency string // eventual or strong
	warmWrites  int    // write units a second

	issuer, audience, jwks string
	leeway                 time.Duration // of nbf and iat
	origins                []string
	domain, zone           string
	liveDomain             string // of the sockets
	checkEvery             int    // seconds between health checks

	userRate          int // commands a second for each user; 0: no limit
	apiRate, apiBurst int
	publish           string
	batchWindow       time.Duration
	beats             int // to how many streams each region appends its heartbeats

	logLevel             string
	logDays, archiveDays int
	alarmTopic           string
	example              bool
}

// The defaults of flags.
const (
	defaultLeeway      = time.Minute
	defaultUserRate    = 50
	defaultAPIRate     = 1000
	defaultAPIBurst    = 2000
	defaultBeats       = 8
	defaultCheckEvery  = 30
	defaultLogDays     = 30
	defaultArchiveDays = 30
)

// jwksPath is where most providers, Cognito among them, publish their keys below the issuer.
const jwksPath = "/.well-known/jwks.json"

// errVersion says that the version was asked for.
var errVersion = errors.New("version")

// parse reads the command line. Its error names every flag that is wrong.
func parse(args []string) (settings, error) {
	if len(args) == 1 {
		switch strings.TrimLeft(args[0], "-") {
		case "help":
			return settings{}, flag.ErrHelp
		case "version":
			return settings{}, errVersion
		}
	}
	s := settings{leeway: defaultLeeway}
	var regions, origins string
	f := flag.NewFlagSet("deploy", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&s.stage, "stage", "", "")
	f.StringVar(&regions, "regions", "", "")
	f.StringVar(&s.remove, "remove", "", "")
	f.BoolVar(&s.dryRun, "dry-run", false, "")
	f.StringVar(&s.consistency, "consistency", "eventual", "")
	f.IntVar(&s.warmWrites, "warm-writes", 0, "")
	f.StringVar(&s.issuer, "issuer", "", "")
	f.StringVar(&s.audience, "audience", "", "")
	f.StringVar(&s.jwks, "jwks", "", "")
	f.Func("leeway", "", func(text string) (err error) {
		if s.leeway, err = time.ParseDuration(text); err != nil {
			return errors.New("it must be a duration such as 60s")
		}
		return nil
	})
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
	f.IntVar(&s.beats, "beats", defaultBeats, "")
	f.StringVar(&s.logLevel, "log", "info", "")
	f.IntVar(&s.logDays, "log-days", defaultLogDays, "")
	f.IntVar(&s.archiveDays, "archive-days", defaultArchiveDays, "")
	f.StringVar(&s.alarmTopic, "alarm-topic", "", "")
	f.BoolVar(&s.example, "example", true, "")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q: there are only flags", f.Arg(0))
	}
	if regions != "" {
		s.regions = strings.Split(regions, ",")
	}
	if origins != "" {
		s.origins = strings.Split(origins, ",")
	}
	if s.jwks == "" && s.issuer != "" {
		s.jwks = strings.TrimSuffix(s.issuer, "/") + jwksPath
	}
	if s.liveDomain == "" && s.domain != "" {
		s.liveDomain = "live." + s.domain
	}
	return s, s.check()
}

// strong reports whether a write waits for another region.
func (s settings) strong() bool { return s.consistency == "strong" }

// touched returns the regions in which the deployment changes something.
func (s settings) touched() []string {
	if s.remove == "" {
		return s.regions
	}
	return append(slices.Clone(s.regions), s.remove)
}

// The names of resources follow from the settings, so another run finds them.

func (s settings) globalStack() string  { return "parley-" + s.stage + "-global" }
func (s settings) regionStack() string  { return "parley-" + s.stage + "-region" }
func (s settings) eventsTable() string  { return "parley-" + s.stage + "-events" }
func (s settings) viewsTable() string   { return "parley-" + s.stage + "-views" }
func (s settings) keysTable() string    { return "parley-" + s.stage + "-keys" }
func (s settings) cursorSecret() string { return "parley-" + s.stage + "-cursors" }

// topicARN is the topic for alarms in a region, "" without one.
func (s settings) topicARN(account, region string) string {
	if s.alarmTopic == "" {
		return ""
	}
	return "arn:" + partition(region) + ":sns:" + region + ":" + account + ":" + s.alarmTopic
}

// codeBucket is the bucket for binaries and templates, shared by the stages of an account. Names of
// buckets are unique in the world, so the account is part of it.
func codeBucket(account, region string) string { return "parley-code-" + account + "-" + region }

// partition returns the part of AWS that a region belongs to; parts do not replicate to each other.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

var (
	stageForm  = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)
	regionForm = regexp.MustCompile(`^[a-z]{2}(-[a-z]+){1,2}-[0-9]{1,2}$`)
	domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
	zoneForm   = regexp.MustCompile(`^Z[A-Z0-9]{1,31}$`)
	topicForm  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)
)

const (
	maxRegions    = 20 // nothing breaks above; it catches slips
	strongRegions = 3  // of a strongly consistent table
	maxDomain     = 253
)

// logDays are the retention times that CloudWatch accepts.
var logDays = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// mistakes collects what is wrong with the settings.
type mistakes []error

// unless adds a mistake unless ok, and returns ok.
func (m *mistakes) unless(ok bool, format string, args ...any) bool {
	if !ok {
		*m = append(*m, fmt.Errorf(format, args...))
	}
	return ok
}

// check returns all that is wrong with the settings themselves. CloudFormation would refuse most of
// it too, but only after the first stacks are made.
func (s settings) check() error {
	var m mistakes
	m.unless(stageForm.MatchString(s.stage), "-stage must be 1 to 12 characters of a-z 0-9, the first a letter, e.g. -stage prod; an account can hold several stages")
	s.checkRegions(&m)
	for _, f := range [][2]string{{"-issuer", s.issuer}, {"-jwks", s.jwks}} {
		u, err := url.Parse(f[1])
		m.unless(f[1] == "" && f[0] == "-jwks" || // the issuer is missing
			err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && !strings.ContainsAny(f[1], " \t\n,"),
			"%s must be a URL with https and without query, e.g. https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Ab12Cd34E", f[0])
	}
	m.unless(s.audience != "" && !strings.ContainsAny(s.audience, " \t\n,"),
		"-audience must be the aud claim of the tokens, without spaces or commas; with Cognito it is the id of the app client")
	for _, origin := range s.origins {
		u, err := url.Parse(origin)
		m.unless(origin == "*" || err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.Scheme+"://"+u.Host == origin,
			"-origins: %q is not an origin; give scheme and host without a path, e.g. https://chat.example.com, separated by commas", origin)
	}
	s.checkDomain(&m)
	m.between("-rate", s.userRate, 0, 1_000_000)
	m.between("-api-rate", s.apiRate, 1, 1_000_000)
	m.between("-api-burst", s.apiBurst, 1, 1_000_000)
	m.between("-beats", s.beats, 1, 100) // so many streams have names
	m.between("-archive-days", s.archiveDays, 1, 36_500)
	if s.warmWrites != 0 {
		m.between("-warm-writes", s.warmWrites, 4000, 1_000_000)
	}
	m.unless(slices.Contains(logDays, s.logDays), "-log-days must be a value that CloudWatch accepts: %s", strings.Trim(fmt.Sprint(logDays), "[]"))
	m.unless(s.checkEvery == 10 || s.checkEvery == 30, "-check-every must be 10 or 30 seconds")
	m.unless(s.leeway >= 0 && s.leeway <= 10*time.Minute, "-leeway must be from 0s to 10m, e.g. 60s")
	m.unless(s.batchWindow >= 0 && s.batchWindow <= 5*time.Minute && s.batchWindow%time.Second == 0, "-batch-window must be whole seconds from 0s to 5m, e.g. 2s")
	m.oneOf("-consistency", s.consistency, "eventual", "strong")
	m.oneOf("-publish", s.publish, "all", "own")
	m.oneOf("-log", s.logLevel, "debug", "info", "warn", "error")
	m.unless(s.alarmTopic == "" || topicForm.MatchString(s.alarmTopic), "-alarm-topic must be the name, not the ARN, of an SNS topic that exists in each region, e.g. parley-alarms")
	return errors.Join(m...)
}

func (s settings) checkRegions(m *mistakes) {
	if !m.unless(len(s.regions) > 0, "-regions is missing: name one or more regions, separated by commas, e.g. -regions us-east-1,eu-west-1") ||
		!m.unless(len(s.regions) <= maxRegions, "-regions may name at most %d regions", maxRegions) {
		return
	}
	for i, region := range s.regions {
		m.unless(regionForm.MatchString(region), "-regions: %q is not an AWS region; give names such as us-east-1, separated by commas without spaces", region)
		m.unless(!slices.Contains(s.regions[:i], region), "-regions names %s twice", region)
		m.unless(partition(region) == partition(s.regions[0]), "-regions: %s and %s are in different partitions of AWS, which do not replicate to each other", s.regions[0], region)
	}
	if s.remove != "" {
		m.unless(regionForm.MatchString(s.remove), "-remove: %q is not an AWS region", s.remove)
		m.unless(!slices.Contains(s.regions, s.remove), "-remove and -regions both name %s", s.remove)
	}
	if !s.strong() {
		return
	}
	m.unless(len(s.regions) == strongRegions, "-consistency strong needs exactly three regions, and -regions names %d", len(s.regions))
	m.unless(slices.ContainsFunc(strongSets, func(set []string) bool {
		return !slices.ContainsFunc(s.regions, func(region string) bool { return !slices.Contains(set, region) })
	}), "-consistency strong needs three regions of one of the sets that DynamoDB allows: %s", strongSetsText())
	m.unless(s.remove == "", "-remove cannot remove a region from a table with strong consistency: it keeps its three regions")
}

// strongSets are the regions among which a table may be strongly consistent, by the DynamoDB Developer Guide,
// "Multi-Region strong consistency".
var strongSets = [][]string{
	{"us-east-1", "us-east-2", "us-west-2"},
	{"eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1"},
	{"ap-northeast-1", "ap-northeast-2", "ap-northeast-3"},
}

func strongSetsText() string {
	var sets []string
	for _, set := range strongSets {
		sets = append(sets, strings.Join(set, ", "))
	}
	return strings.Join(sets, "; or ")
}

func (s settings) checkDomain(m *mistakes) {
	if s.domain == "" {
		m.unless(s.zone == "", "-zone is given without -domain; add e.g. -domain api.example.com, or omit -zone")
		m.unless(s.liveDomain == "", "-live-domain is given without -domain; add e.g. -domain api.example.com, or omit -live-domain")
		return
	}
	for _, f := range [][2]string{{"-domain", s.domain}, {"-live-domain", s.liveDomain}} {
		if !m.unless(domainForm.MatchString(f[1]) && len(f[1]) <= maxDomain, "%s must be a host name in lower case, e.g. api.example.com", f[0]) {
			break // the name of the sockets follows from the domain
		}
	}
	m.unless(s.liveDomain != s.domain, "-live-domain must be another name than -domain: API Gateway takes no WebSocket API under the name of an HTTP API")
	m.unless(zoneForm.MatchString(s.zone), "-zone must be the id of the domain's hosted zone in Route 53, e.g. Z0123456789ABCDEFGHIJ, without /hostedzone/; `aws route53 list-hosted-zones` shows it")
}

func (m *mistakes) between(flag string, n, from, to int) {
	m.unless(n >= from && n <= to, "%s must be from %d to %d, not %d", flag, from, to, n)
}

func (m *mistakes) oneOf(flag, text string, allowed ...string) {
	m.unless(slices.Contains(allowed, text), "%s must be %s, not %q", flag, strings.Join(allowed, " or "), text)
}
