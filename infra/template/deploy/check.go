package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	stageForm  = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)
	regionForm = regexp.MustCompile(`^[a-z]{2}(-[a-z]+){1,2}-[0-9]{1,2}$`)
	domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
	zoneForm   = regexp.MustCompile(`^Z[A-Z0-9]{1,31}$`)
	topicForm  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)
)

// logDays are what CloudWatch takes for the retention of logs.
var logDays = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// The most regions. Nothing breaks above; it is to catch slips.
const maxRegions = 20

// check says all that is wrong with the settings by themselves.
func (s settings) check() error {
	return errors.Join(
		s.checkStage(),
		s.checkRegions(),
		s.checkStrong(),
		s.checkRemove(),
		checkURL("-issuer", s.issuer, "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Ab12Cd34E"),
		s.checkAudience(),
		s.checkJWKS(),
		s.checkOrigins(),
		s.checkDomain(),
		s.checkNumbers(),
		oneOf("-publish", s.publish, "all", "own"),
		oneOf("-log", s.logLevel, "debug", "info", "warn", "error"),
		s.checkTopic(),
	)
}

func (s settings) checkStage() error {
	if s.stage == "" {
		return errors.New("-stage is missing: name this Parley, e.g. -stage prod; an account can hold several")
	}
	if !stageForm.MatchString(s.stage) {
		return errors.New("-stage must be 1 to 12 characters of a-z 0-9, the first a letter, e.g. prod")
	}
	return nil
}

func (s settings) checkRegions() error {
	if len(s.regions) == 0 {
		return errors.New("-regions is missing: name one or more, with commas between, e.g. -regions us-east-1,eu-west-1")
	}
	if len(s.regions) > maxRegions {
		return fmt.Errorf("-regions may name %d regions", maxRegions)
	}
	for i, region := range s.regions {
		if !regionForm.MatchString(region) {
			return fmt.Errorf("-regions: %q is no AWS region; give names such as us-east-1, with commas and no spaces between", region)
		}
		if slices.Contains(s.regions[:i], region) {
			return fmt.Errorf("-regions names %s twice; leave one out", region)
		}
		if partition(region) != partition(s.regions[0]) {
			return fmt.Errorf("-regions: %s and %s are in different partitions of AWS, which do not replicate to each other", s.regions[0], region)
		}
	}
	return nil
}

// partition tells apart the parts of AWS that know nothing of each other.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// strongRegions is how many regions a strongly consistent table has.
const strongRegions = 3

func (s settings) checkStrong() error {
	if !s.strong {
		return nil
	}
	if len(s.regions) != strongRegions {
		return fmt.Errorf("-consistency strong needs exactly three regions, and -regions names %d; name three, or leave -consistency out", len(s.regions))
	}
	for _, region := range s.regions {
		if continent(region) != continent(s.regions[0]) {
			return fmt.Errorf("-consistency strong needs three regions of one part of the world (us-, eu- or ap-); %s and %s are not", s.regions[0], region)
		}
	}
	if s.remove != "" {
		return errors.New("-remove takes no region from a table with strong consistency: it has three, for good")
	}
	return nil
}

func continent(region string) string {
	first, _, _ := strings.Cut(region, "-")
	return first
}

func (s settings) checkRemove() error {
	switch {
	case s.remove == "":
		return nil
	case !regionForm.MatchString(s.remove):
		return fmt.Errorf("-remove: %q is no AWS region; name one, such as eu-west-1", s.remove)
	case slices.Contains(s.regions, s.remove):
		return fmt.Errorf("-remove and -regions both name %s; leave it out of -regions, or leave -remove out", s.remove)
	}
	return nil
}

func (s settings) checkAudience() error {
	if s.audience == "" || strings.ContainsAny(s.audience, " \t\n,") {
		return errors.New("-audience must be the aud claim of the tokens, without spaces or commas; at Cognito it is the id of the app client")
	}
	return nil
}

func (s settings) checkJWKS() error {
	if s.issuer == "" {
		return nil // that is said already
	}
	return checkURL("-jwks", s.jwks, "https://issuer.example.com"+jwksPath)
}

// checkURL takes what a provider publishes: AWS fetches it from outside, and only over TLS.
func checkURL(flag, text, example string) error {
	if text == "" {
		return fmt.Errorf("%s is missing: give the URL, e.g. %s", flag, example)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, " \t\n,") {
		return fmt.Errorf("%s must be a URL with https and without query, e.g. %s", flag, example)
	}
	return nil
}

func (s settings) checkOrigins() error {
	for _, origin := range s.origins {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
			return fmt.Errorf("-origins: %q is no origin; give scheme and host without a path, e.g. https://chat.example.com, with commas between", origin)
		}
	}
	return nil
}

func (s settings) checkDomain() error {
	switch {
	case s.domain == "" && s.liveDomain != "":
		return errors.New("-live-domain is given without -domain; add e.g. -domain api.example.com, or leave -live-domain out")
	case s.domain == "" && s.zone == "":
		return nil
	case s.domain == "":
		return errors.New("-zone is given without -domain; add e.g. -domain api.example.com, or leave -zone out")
	case s.zone == "":
		return errors.New("-domain needs -zone, the id of its hosted zone in Route 53; `aws route53 list-hosted-zones` shows it")
	case !domainForm.MatchString(s.domain) || len(s.domain) > 253:
		return errors.New("-domain must be a host name in lower case, e.g. api.example.com")
	case !zoneForm.MatchString(s.zone):
		return errors.New("-zone must be the id of a hosted zone, e.g. Z0123456789ABCDEFGHIJ, without /hostedzone/")
	case !domainForm.MatchString(s.liveDomain) || len(s.liveDomain) > 253:
		return errors.New("-live-domain must be a host name in lower case, e.g. live.api.example.com")
	case s.liveDomain == s.domain:
		return errors.New("-live-domain must be another name than -domain: API Gateway takes no sockets beside an HTTP API")
	}
	return nil
}

func (s settings) checkNumbers() error {
	var errs []error
	between := func(flag string, n, from, to int) {
		if n < from || n > to {
			errs = append(errs, fmt.Errorf("%s must be from %d to %d, not %d", flag, from, to, n))
		}
	}
	between("-rate", s.userRate, 0, 1_000_000)
	between("-api-rate", s.apiRate, 1, 1_000_000)
	between("-api-burst", s.apiBurst, 1, 1_000_000)
	between("-archive-days", s.archiveDays, 1, 36_500)
	if s.warmWrites != 0 {
		between("-warm-writes", s.warmWrites, 4000, 1_000_000)
	}
	if !slices.Contains(logDays, s.logDays) {
		errs = append(errs, fmt.Errorf("-log-days must be one of what CloudWatch has, %s", strings.Trim(fmt.Sprint(logDays), "[]")))
	}
	if s.checkEvery != 10 && s.checkEvery != 30 {
		errs = append(errs, errors.New("-check-every must be 10 or 30, in seconds; Route 53 has no other"))
	}
	if s.batchWindow < 0 || s.batchWindow > 5*time.Minute || s.batchWindow%time.Second != 0 {
		errs = append(errs, errors.New("-batch-window must be whole seconds from 0s to 5m, e.g. 2s"))
	}
	return errors.Join(errs...)
}

func (s settings) checkTopic() error {
	if s.alarmTopic != "" && !topicForm.MatchString(s.alarmTopic) {
		return errors.New("-alarm-topic must be the name, not the ARN, of an SNS topic that is in each region, e.g. parley-alarms")
	}
	return nil
}

func oneOf(flag, text string, allowed ...string) error {
	if !slices.Contains(allowed, text) {
		return fmt.Errorf("%s must be %s, not %q", flag, strings.Join(allowed, " or "), text)
	}
	return nil
}
