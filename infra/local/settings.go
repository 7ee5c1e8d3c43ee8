package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/events"
)

// settings are what the command line says.
type settings struct {
	host    string
	port    int // of the global endpoint; the regions' follow; 0: any that are free
	data    string
	regions []string
	lag     time.Duration
	rate    int    // commands a second for each user; 0: no limit
	store   string // storePebble or storeDynamo
	// endpoint is where DynamoDB is, "" if it is to be started.
	endpoint string
	key      string // the access key: in DynamoDB Local each has tables of its own
	level    slog.Level
}

const (
	defaultAddr    = "127.0.0.1:8080"
	defaultData    = "./.parley"
	defaultRegions = "us-east-1,eu-west-1,ap-southeast-2"
	defaultRate    = 50
	burstSeconds   = 4 // of commands, saved up in a pause

	maxRegions = 9
	maxLag     = time.Minute
)

// parse reads the command line. Its error names the flag that is wrong.
func parse(args []string) (settings, error) {
	s := settings{level: slog.LevelWarn, key: "parley"}
	var addr, regions string
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&addr, "addr", defaultAddr, "")
	flags.StringVar(&s.data, "data", defaultData, "")
	flags.StringVar(&regions, "regions", defaultRegions, "")
	flags.StringVar(&s.store, "store", storePebble, "")
	flags.StringVar(&s.endpoint, "endpoint", "", "")
	s.lag = defaultWeather.Lag
	flags.Func("lag", "", func(text string) (err error) {
		if s.lag, err = time.ParseDuration(text); err != nil {
			return errors.New("it must be a duration such as 150ms or 2s")
		}
		return nil
	})
	flags.IntVar(&s.rate, "rate", defaultRate, "")
	flags.Func("log", "", func(text string) error {
		if s.level.UnmarshalText([]byte(text)) != nil {
			return errors.New("it must be debug, info, warn or error")
		}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("%q is no flag and nothing else is taken", flags.Arg(0))
	}
	s.regions = strings.Split(regions, ",")
	return s, errors.Join(s.setAddr(addr), s.check())
}

func (s *settings) setAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("-addr must be host:port, e.g. %s", defaultAddr)
	}
	s.host = host
	if s.port, err = strconv.Atoi(port); err != nil || s.port < 0 || s.port+len(s.regions) > 65535 {
		return fmt.Errorf("-addr must have a port from 0 to %d: the ports behind it are the regions'", 65535-len(s.regions))
	}
	return nil
}

func (s *settings) check() error {
	switch {
	case s.store != storePebble && s.store != storeDynamo:
		return errors.New("-store must be " + storePebble + ", the embedded store, or " + storeDynamo)
	case s.endpoint != "" && s.store != storeDynamo:
		return errors.New("-endpoint goes with -store " + storeDynamo)
	case s.endpoint != "" && !isURL(s.endpoint):
		return errors.New("-endpoint must be a URL, e.g. http://127.0.0.1:8000")
	case s.data == "":
		return errors.New("-data must name a folder")
	case s.lag < 0 || s.lag > maxLag:
		return fmt.Errorf("-lag must be from 0s to %s, e.g. 150ms", maxLag)
	case s.rate < 0:
		return errors.New("-rate must not be below 0; 0 is no limit")
	case len(s.regions) > maxRegions:
		return fmt.Errorf("-regions may name %d regions", maxRegions)
	}
	for i, region := range s.regions {
		if events.ValidateRegion("region", region) != nil {
			return errors.New("-regions must be names of a-z 0-9 - with commas between, e.g. " + defaultRegions)
		}
		if slices.Contains(s.regions[:i], region) {
			return errors.New("-regions names " + region + " twice")
		}
	}
	return nil
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
