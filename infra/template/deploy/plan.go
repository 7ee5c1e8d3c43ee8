package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// step is one thing to do.
type step struct {
	title  string
	costs  string   // what it costs from then on
	args   []string // of the aws command; <name> stands for what an earlier step saved
	file   string   // the name in <work> of a file it needs, if not ""
	text   string   // the content of that file
	save   string   // the name under which what it prints is kept, if not ""
	quiet  bool     // what it prints is a secret
	absent string   // what to do if AWS has no such secret
	big    bool     // changes are waited for
}

// workFolder stands for the folder of files until it is known.
const workFolder = "<work>"

// plan returns what must be done to get from a state to the settings. It changes nothing, and
// depends on nothing else.
func plan(s settings, st state, t templates) ([]step, error) {
	p := &planner{s: s, st: st, t: t}
	p.uploads()
	p.log()
	p.add(step{title: p.st.home + ": find the key that wraps users' keys", save: rootKey, args: askKeyID(s.globalStack(), p.st.home)})
	p.add(step{title: p.st.home + ": read the key of cursors, which all regions share", save: cursorKey, quiet: true, absent: p.st.anotherKey(s), args: []string{
		"secretsmanager", "get-secret-value", "--region", p.st.home, "--secret-id", p.s.cursorSecret(), "--query", "SecretString", "--output", "text",
	}})
	for _, region := range s.regions {
		p.region(region)
	}
	p.removal()
	return p.steps, p.err
}

// planner gathers the steps, and the first error.
type planner struct {
	s     settings
	st    state
	t     templates
	steps []step
	err   error
}

func (p *planner) add(s step) { p.steps = append(p.steps, s) }

// template returns the text of a template, or keeps its error.
func (p *planner) template(text string, err error) string {
	if p.err == nil {
		p.err = err
	}
	return text
}

// uploads makes the buckets, and puts the code in them.
func (p *planner) uploads() {
	for _, region := range p.s.regions {
		bucket, there := codeBucket(p.st.account, region), p.st.regions[region]
		if !there.bucket {
			args := []string{"s3api", "create-bucket", "--region", region, "--bucket", bucket}
			if region != "us-east-1" { // which takes no constraint, and is what is meant without one
				args = append(args, "--create-bucket-configuration", "LocationConstraint="+region)
			}
			p.add(step{title: region + ": make the bucket for code, " + bucket, costs: costBucket, args: args})
			p.add(step{title: region + ": let nobody else see into it", args: []string{
				"s3api", "put-public-access-block", "--region", region, "--bucket", bucket, "--public-access-block-configuration",
				"BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true",
			}})
		}
		if !there.code {
			p.add(step{title: region + ": upload the binary", args: []string{
				"s3api", "put-object", "--region", region, "--bucket", bucket, "--expected-bucket-owner", p.st.account, "--key", p.st.code.key, "--body", workFolder + "/" + codeFile,
			}})
		}
	}
}

// log makes the event table or brings it up to date, and then adds what replicas it lacks: one at
// a time, for CloudFormation takes no more, and by themselves.
func (p *planner) log() {
	have := p.st.replicas
	if len(have) == 0 {
		have = p.s.regions // a table is made with all of its replicas at once
	}
	title := "make the log, with a replica in " + strings.Join(have, ", ")
	if len(p.st.replicas) > 0 {
		title = "bring the log up to date"
	}
	p.global("global.yaml", title, costLog, have, "")
	for _, region := range p.s.regions {
		if !slices.Contains(have, region) {
			have = append(slices.Clone(have), region)
			p.global("global-"+region+".yaml", "add a replica in "+region+", which gets all events there are", costReplica, have, "")
		}
	}
}

func (p *planner) global(file, title, costs string, regions []string, open string) {
	consistency := "EVENTUAL"
	if p.s.strong {
		consistency = "STRONG"
	}
	p.stack(p.s.globalStack(), p.st.home, file, p.template(p.t.forGlobal(regions, open)), title, costs, []string{
		"Stage=" + p.s.stage, "Consistency=" + consistency, "WarmWrites=" + strconv.Itoa(p.s.warmWrites),
	})
}

// stack deploys a stack. If nothing has changed, that is well.
func (p *planner) stack(stack, region, file, text, title, costs string, parameters []string) {
	args := []string{
		"cloudformation", "deploy", "--region", region, "--stack-name", stack, "--template-file", workFolder + "/" + file,
		"--s3-bucket", codeBucket(p.st.account, region), "--s3-prefix", "templates",
		"--capabilities", "CAPABILITY_NAMED_IAM", "--no-fail-on-empty-changeset", "--tags", "parley=" + p.s.stage, overrides,
	}
	p.add(step{title: region + ": " + title, costs: costs, args: append(args, parameters...), file: file, text: text, big: true})
}

// members are the regions of the log when all is done.
func (p *planner) members() []string {
	all := slices.Clone(p.s.regions)
	for _, region := range p.st.replicas {
		if !slices.Contains(all, region) && region != p.s.remove {
			all = append(all, region)
		}
	}
	return all
}

// region makes a region's stack or brings it up to date.
func (p *planner) region(region string) {
	p.add(step{title: region + ": find the stream of the log", save: streamOf(region), args: []string{
		"dynamodb", "describe-table", "--region", region, "--table-name", p.s.eventsTable(), "--query", "Table.LatestStreamArn", "--output", "text",
	}})
	var others []string
	if !p.s.strong { // a strongly consistent table has no replication that could lag
		others = slices.DeleteFunc(p.members(), func(other string) bool { return other == region })
	}
	text, file := p.template(p.t.forRegion(others)), "region-"+region+".yaml"
	if p.st.regions[region].stack == "" {
		p.stack(p.s.regionStack(), region, file, text, "make the API, functions, views and bus", p.costRegion(), p.parameters(region, false))
		p.stack(p.s.regionStack(), region, file, text, "protect the views from being deleted", "", p.parameters(region, true))
	} else {
		p.stack(p.s.regionStack(), region, file, text, "bring the API, functions, views and bus up to date", p.costRegion(), p.parameters(region, true))
	}
	for _, find := range []struct{ title, save, output string }{
		{"find its endpoint", endpointOf(region), "Endpoint"},
		{"find that of its sockets", socketsOf(region), "LiveEndpoint"},
	} {
		p.add(step{title: region + ": " + find.title, save: find.save, args: []string{
			"cloudformation", "describe-stacks", "--region", region, "--stack-name", p.s.regionStack(),
			"--query", "Stacks[0].Outputs[?OutputKey=='" + find.output + "'].OutputValue", "--output", "text",
		}})
	}
}

// cursorKey is the name under which the key of cursors is kept. It is never shown.
const cursorKey = "key of cursors"

func streamOf(region string) string   { return "stream of " + region }
func endpointOf(region string) string { return "endpoint of " + region }
func socketsOf(region string) string  { return "sockets of " + region }

// parameters are those of region.yaml, all of them: one that is left out would keep its last value.
func (p *planner) parameters(region string, protected bool) []string {
	s := p.s
	return []string{
		"Stage=" + s.stage,
		"StreamArn=<" + streamOf(region) + ">",
		"CodeBucket=" + codeBucket(p.st.account, region),
		"CodeKey=" + p.st.code.key,
		"Issuer=" + s.issuer,
		"Audience=" + s.audience,
		"Jwks=" + s.jwks,
		"CursorKey=<" + cursorKey + ">",
		"KeyId=<" + rootKey + ">",
		"KeyFrom=" + p.st.keyFrom(region),
		"Origins=" + strings.Join(s.origins, ","),
		"UserRate=" + strconv.Itoa(s.userRate),
		"ApiRate=" + strconv.Itoa(s.apiRate),
		"ApiBurst=" + strconv.Itoa(s.apiBurst),
		"Publish=" + s.publish,
		fmt.Sprintf("BatchWindow=%d", int(s.batchWindow.Seconds())),
		"LogLevel=" + s.logLevel,
		"LiveLog=" + strconv.FormatBool(p.st.regions[region].logRole),
		"LogDays=" + strconv.Itoa(s.logDays),
		"ArchiveDays=" + strconv.Itoa(s.archiveDays),
		"ViewsProtected=" + strconv.FormatBool(protected),
		"AlarmTopicArn=" + s.topicARN(p.st.account, region),
		"Domain=" + s.domain,
		"LiveDomain=" + s.liveDomain,
		"Zone=" + s.zone,
		"HealthCheckInterval=" + strconv.Itoa(s.checkEvery),
		"ExampleQueue=" + strconv.FormatBool(s.example),
	}
}

// removal takes a region away, its API first. Its table is what goes last, after it was told that
// it may; what it accepted has long been replicated by then.
func (p *planner) removal() {
	if p.s.remove == "" {
		return
	}
	remove, on := p.s.remove, []string{"--region", p.s.remove, "--stack-name", p.s.regionStack()}
	if p.st.regions[remove].stack != "" {
		p.add(step{title: remove + ": delete the API, functions and bus", args: append([]string{"cloudformation", "delete-stack"}, on...)})
		p.add(step{title: remove + ": wait until they are gone", args: append([]string{"cloudformation", "wait", "stack-delete-complete"}, on...), big: true})
	}
	if slices.Contains(p.st.replicas, remove) {
		rest := p.members()
		p.global("global-open.yaml", "let the replica in "+remove+" be deleted", "", append(slices.Clone(rest), remove), remove)
		p.global("global-rest.yaml", "delete the replica in "+remove+"; the events stay in "+strings.Join(rest, ", "), "", rest, "")
	}
}
