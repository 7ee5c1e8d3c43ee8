package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// help is the answer to -help.
func help() string {
	return fmt.Sprintf(`Puts Parley into your AWS account, in as many regions as you like.

    go run ./infra/template/deploy -stage name -regions name,... -issuer URL -audience text [flags]

It builds the binary for Lambda, and has the aws command, with the credentials you gave it, make
one stack for the log and one for each region. Run again it changes what has changed, and nothing
if nothing has. Each step is printed with its command and with what it costs.

What is deployed:
  -stage name
        Names this Parley: all it makes is called parley-<stage>-something. 1 to 12 of a-z 0-9.
        Example: -stage prod
  -regions name,name,...
        The AWS regions. The first gets the stack of the log. Name more, later, to add them: each
        new one gets all events. One that is left out stays as it is. Example: -regions us-east-1,eu-west-1
  -remove name
        Takes this region away, its API and its replica of the log. The others have all events.
        The region of the log's stack, the first ever named, cannot be removed.
  -consistency eventual|strong
        Whether an event is answered for when it is in its region (eventual, the default), or in
        another, too (strong: slower, exactly three regions of one part of the world, and for good).
  -warm-writes number
        Write units a second that the log takes at once, from 4000, which a new table takes anyway.
        Costs once. It is never lowered. Example: -warm-writes 20000

Whose tokens are taken:
  -issuer URL       The iss claim. AWS fetches <URL>/.well-known/openid-configuration.
  -audience text    The aud claim.
  -jwks URL         The keys. The default is <issuer>%s, which is where Cognito has them.

Where clients find it:
  -domain name, -zone id
        A name for all regions, and the Route 53 hosted zone it lies in: each asker gets the nearest
        healthy region. Without them each region has an endpoint of its own and nothing more.
        Example: -domain api.example.com -zone Z0123456789ABCDEFGHIJ
  -live-domain name
        The name of the sockets, in the same zone; live.<domain> is the default.
  -check-every 10|30
        Seconds between health checks; 30 is the default. 10 finds out sooner and costs more.
  -origins URL,...
        Origins of web pages that may call it. The default is none.
        Example: -origins https://chat.example.com

How it runs:
  -rate number          Commands a second for each user and process; %d is the default, 0 no limit.
  -api-rate number      Requests a second for each region, and as many frames of sockets; %d is the default.
  -api-burst number     Requests at once after a pause; %d is the default.
  -publish all|own      What each region puts on its bus: every event (all, the default), or what it
                        accepted itself (own).
  -batch-window time    How long events are gathered before they are shown; 0s is the default. 1s costs
                        fewer writes where traffic is low, and everything is seen that much later.
  -log level            debug, info (the default), warn or error.
  -log-days number      How long logs are kept; %d is the default.
  -archive-days number  How long the bus can replay; %d is the default. The log is kept for good.
  -alarm-topic name     An SNS topic, of this name in each region, that hears of alarms.
  -example=false        Leaves out the example queue that gets every message posted.

  -dry-run
        Prints what would be done in an account that has nothing yet. Needs neither the aws command
        nor credentials, and changes nothing.
  -help
        This text.

Prices are of us-east-1, and change: README.md says what a million messages cost.
`, jwksPath, defaultUserRate, defaultAPIRate, defaultAPIBurst, defaultLogDays, defaultArchiveDays)
}

// What steps cost.
const (
	costBucket  = "about nothing: some MB at 0.023 $ a GB and month"
	costLog     = "while idle, 0.40 $ a month for the secret, and storage and backup: 0.25 + 0.20 $ a GB and month and region; an event 0.625 $ a million in each region"
	costReplica = "the copy once, 0.15 $ a GB; then as the other replicas"
)

// costRegion is what a region costs.
func (p *planner) costRegion() string {
	text := "idle about 8 $ a month: metrics, alarms, beats, queues, and the key"
	if p.s.domain != "" {
		text = "idle about 12 $ a month: metrics, alarms, beats, queues, the key, and the health check with the requests it makes"
		if p.s.checkEvery == 10 {
			text = "idle about 18 $ a month: metrics, alarms, beats, queues, the key, and the health check with the requests it makes"
		}
	}
	return text + "; then by use, see README.md"
}

// dryRun prints what would be done in an empty account.
func dryRun(s settings, t templates, out io.Writer) error {
	st := state{account: "<account>", home: s.regions[0], code: code{key: "parley/<sha256>.zip"}}
	if s.remove != "" {
		st.replicas = append(slices.Clone(s.regions), s.remove)
		st.regions = map[string]regionState{}
		for _, region := range st.replicas {
			st.regions[region] = regionState{stack: "CREATE_COMPLETE", bucket: true}
		}
	}
	steps, err := plan(s, st, t)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "This is what would be done %s. Nothing is done now.\n\nLook at what is there; none of this changes anything:\n", st.supposed())
	for _, question := range questions(s, st) {
		fmt.Fprintf(out, "    %s\n", line(question))
	}
	fmt.Fprintf(out, "\nBuild the binary, and zip it as %s/%s:\n    %s go %s -o %s/bootstrap %s\n\n", workFolder, codeFile,
		strings.Join(buildEnv, " "), strings.Replace(strings.Join(buildArgs, " "), "-s -w", "'-s -w'", 1), workFolder, lambdaPackage)
	for i, step := range steps {
		fmt.Fprint(out, step.shown(i+1, len(steps)))
	}
	return nil
}

// supposed says what a dry run takes for granted.
func (st state) supposed() string {
	if len(st.replicas) > 0 {
		return "if all of these regions are there; what is not new is left as it is"
	}
	return "in an account that has nothing yet; what is there already is not made again"
}

// questions are all that a run may ask.
func questions(s settings, st state) [][]string {
	all := [][]string{askIdentity(st.home)}
	for _, region := range s.touched() {
		all = append(all, askStack(s.globalStack(), region), askTable(s.eventsTable(), region), askTable(s.keysTable(), region),
			askStack(s.regionStack(), region), askTable(s.viewsTable(), region))
		if arn := s.topicARN(st.account, region); arn != "" {
			all = append(all, askTopic(arn, region))
		}
		all = append(all, askLogRole(region), askBucket(st.account, region), askKey("<"+rootKey+">", region), askKeyFrom(s.regionStack(), region))
	}
	all = append(all, askKeyID(s.globalStack(), st.home), askSecret(s.cursorSecret(), st.home))
	if s.zone != "" {
		all = append(all, askZone(s.zone, st.home))
	}
	for _, region := range s.regions {
		all = append(all, askCode(st.account, region, st.code.key))
	}
	return all
}

const stopped = `
Stopped. What was done so far stays, and CloudFormation finishes what it was told. Run the same
command again when it has: it goes on from there.
`

// farewell says where everything is.
func farewell(s settings, st state, saved map[string]string) string {
	var b strings.Builder
	b.WriteString("\nParley is deployed.\n\n")
	if s.domain != "" {
		fmt.Fprintf(&b, "  https://%s   the nearest healthy region\n  wss://%s   its sockets\n", s.domain, s.liveDomain)
	}
	for _, region := range s.regions {
		fmt.Fprintf(&b, "  %s   %s\n  %s   its sockets\n", saved[endpointOf(region)], region, saved[socketsOf(region)])
	}
	fmt.Fprintf(&b, "\nIs it well?  curl %s/health\n", saved[endpointOf(s.regions[0])])
	for _, region := range s.regions {
		if !st.regions[region].logRole {
			fmt.Fprintf(&b, "\n%s keeps no access log of sockets: API Gateway has no role for its logs there. README.md says how to give it one.\n", region)
		}
	}
	for _, region := range st.replicas {
		if region != s.remove && !slices.Contains(s.regions, region) {
			fmt.Fprintf(&b, "\n%s was left as it is: name it in -regions to bring it up to date, or in -remove to take it away.\n", region)
		}
	}
	for _, region := range s.regions {
		if len(st.replicas) > 0 && !slices.Contains(st.replicas, region) {
			fmt.Fprintf(&b, "\n%s is new. Its log has all events; its views have those from now on, until they are\nrebuilt: go run ./infra/operate rebuild all -url %s, and the same with rebuild feed.\n", region, saved[endpointOf(region)])
		}
	}
	if s.remove != "" {
		fmt.Fprintf(&b, `
%s is removed. These stay there and can be deleted when nobody needs them: the table %s, the
bucket of failures whose name begins with %s, the bucket %s, and its
replica of the key that wraps users' keys, which is used again if the region comes back.
`, s.remove, s.viewsTable(), s.regionStack(), codeBucket(st.account, s.remove))
	}
	return b.String()
}
