package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// help is the answer to -help and help.
func help() string {
	return fmt.Sprintf(`Deploy puts Parley into your AWS account, in as many regions as you like.

    go run ./infra/template/deploy -stage name -regions name,... -issuer URL -audience text [flags]

It builds the binary for Lambda. Then the aws command, with your credentials, makes one stack for
the log and one for each region. A second run updates what has changed and changes nothing
otherwise. Each step is printed with its command and its ongoing cost.

What to deploy:
  -stage name
        The name of this Parley: all resources are named parley-<stage>-something. 1 to 12 of
        a-z 0-9. Example: -stage prod
  -regions name,name,...
        The AWS regions. The first gets the stack of the log. Name more later to add them: each new
        one gets all events. One that is omitted stays as it is. Example: -regions us-east-1,eu-west-1
  -remove name
        Removes this region: its API and its replica of the log. The others have all events.
        The region of the log's stack, the first ever named, cannot be removed.
  -consistency eventual|strong
        When a write is answered: when its region has it (eventual, the default), or when another
        region has it too (strong: slower, exactly three regions of one part of the world). This
        cannot be changed later.
  -warm-writes number
        Write units a second that the log accepts at once. A new table accepts 4000, the minimum
        here. Costs once, and is never lowered. Example: -warm-writes 20000

Which tokens to accept:
  -issuer URL       The iss claim. AWS fetches <URL>/.well-known/openid-configuration.
  -audience text    The aud claim.
  -jwks URL         The keys. The default is <issuer>%s, as with Cognito.
  -leeway time      How far the issuer's clock may be ahead: nbf and iat may be in the future by so
                    much. The default is 60s. API Gateway, which sees HTTP requests first, has none.

Where clients find it:
  -domain name, -zone id
        A name for all regions, and the Route 53 hosted zone that it is in: each client is routed to
        the nearest healthy region. Without them each region has only an endpoint of its own.
        Example: -domain api.example.com -zone Z0123456789ABCDEFGHIJ
  -live-domain name
        The name of the sockets, in the same zone. The default is live.<domain>.
  -check-every 10|30
        Seconds between health checks. The default is 30; 10 detects a failure sooner and costs more.
  -origins URL,...
        Origins of web pages that may call it. The default is none.
        Example: -origins https://chat.example.com

How it runs:
  -rate number          Commands a second for each user and process. The default is %d; 0 is no limit.
  -api-rate number      Requests a second for each region, and as many socket frames. The default is %d.
  -api-burst number     Requests at once after a pause. The default is %d.
  -publish all|own      What each region puts on its bus: every event (all, the default), or only
                        those that it accepted itself (own).
  -batch-window time    How long events are collected before they are projected. The default is 0s. 1s
                        costs fewer writes at low traffic, and delays every event by up to that time.
  -beats number         To how many streams each region appends a heartbeat, once a minute, 1 to 100:
                        they sample the shards of the change stream. The default is %d.
  -log level            debug, info (the default), warn or error.
  -log-days number      How long logs are kept. The default is %d.
  -archive-days number  How far back the bus can replay. The default is %d. The log is kept forever.
  -alarm-topic name     The SNS topic, of this name in each region, that receives alarms.
  -example=false        Omits the example queue, which receives every posted message.

  -dry-run
        Prints what would be done in an account without Parley. Needs neither the aws command nor
        credentials, and changes nothing.
  -help, help
        This text.
  -version, version
        The version of this program, which is that of the code it deploys.

Prices are those of us-east-1 and change. infra/template/README.md is the deployment guide,
infra/template/COSTS.md says what a million messages cost.
`, jwksPath, defaultUserRate, defaultAPIRate, defaultAPIBurst, defaultBeats, defaultLogDays, defaultArchiveDays)
}

// What steps cost.
const (
	costBucket  = "almost nothing: some MB at 0.023 $ a GB and month"
	costLog     = "idle, 0.40 $ a month for the secret, and storage and backup: 0.25 + 0.20 $ a GB and month and region; an event 0.625 $ a million in each region"
	costReplica = "the copy once, 0.15 $ a GB; then like the other replicas"
)

// costRegion returns what a region costs.
func (p *planner) costRegion() string {
	dollars, what := 7.8, "metrics, alarms, heartbeats, queues, and the key"
	if p.s.domain != "" {
		dollars, what = 11.7, "metrics, alarms, heartbeats, queues, the key, and the health check with its requests"
		if p.s.checkEvery == 10 {
			dollars = 17.5
		}
	}
	dollars += 0.14 * float64(p.s.beats*len(p.s.regions)) // each region gets the heartbeats of all
	return fmt.Sprintf("idle, about %.0f $ a month: %s; then by use, see infra/template/COSTS.md", dollars, what)
}

// dryRun prints what would be done in an empty account.
func dryRun(ctx context.Context, s settings, t templates, out io.Writer) error {
	assumed := "in an account without Parley; what exists already is not created again"
	if s.remove != "" {
		assumed = "if all of these regions exist; what is up to date stays as it is"
	}
	fmt.Fprintf(out, "This is what would be done %s. Nothing is done now.\n\nRead the state of the account; none of this changes anything:\n", assumed)
	st, err := readState(&reader{ctx: ctx, dryRun: out}, s)
	if err != nil {
		return err
	}
	st.assume(s)
	steps, err := plan(s, st, t)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nBuild the binary, and zip it as %s/%s:\n    %s go %s -o %s/bootstrap %s\n\n", workFolder, codeFile,
		strings.Join(buildEnv, " "), strings.Replace(strings.Join(buildArgs, " "), "-s -w", "'-s -w'", 1), workFolder, lambdaPackage)
	for i, step := range steps {
		fmt.Fprint(out, step.describe(i+1, len(steps)))
	}
	return nil
}

const stopped = `
Stopped. The steps done so far stay, and CloudFormation finishes what it has begun. When it has, run
the same command again: it continues from there.
`

// farewell says where everything is, and what to do next.
func farewell(s settings, st state, stacks map[string]stack) string {
	var b strings.Builder
	b.WriteString("\nParley is deployed.\n\n")
	if s.domain != "" {
		fmt.Fprintf(&b, "  https://%s   the nearest healthy region\n  wss://%s   its sockets\n", s.domain, s.liveDomain)
	}
	endpoint := func(region string) string { return stacks[region].outputs["Endpoint"] }
	for _, region := range s.regions {
		fmt.Fprintf(&b, "  %s   %s\n  %s   its sockets\n", endpoint(region), region, stacks[region].outputs["LiveEndpoint"])
	}
	fmt.Fprintf(&b, "\nCheck the deployment:  curl %s/health\n", endpoint(s.regions[0]))
	for _, region := range s.regions {
		if !st.regions[region].logRole {
			fmt.Fprintf(&b, "\n%s writes no access log of sockets: API Gateway has no role for its logs there. infra/template/README.md says how to give it one.\n", region)
		}
	}
	for _, region := range st.replicas {
		if region != s.remove && !slices.Contains(s.regions, region) {
			fmt.Fprintf(&b, "\n%s was left as it is: name it in -regions to update it, or in -remove to remove it.\n", region)
		}
	}
	for _, region := range st.newRegions(s.regions) {
		fmt.Fprintf(&b, "\n%s is new. Its log has all events; its views have only new ones until they are rebuilt:\ngo run ./infra/operate rebuild all -url %s, and then rebuild feed.\n", region, endpoint(region))
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
