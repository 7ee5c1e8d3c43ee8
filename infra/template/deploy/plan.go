package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// step is one command of a deployment.
type step struct {
	title  string
	costs  string   // what it costs from then on
	args   []string // of the aws command; <name> stands for a value that an earlier step saved
	file   string   // the name in the work folder of a file that it needs, if not ""
	text   string   // the content of that file
	save   string   // the name under which its output is saved, if not ""
	secret bool     // its output must never be printed
	slow   bool     // it waits until AWS has made a change
	hints  []hint
}

// hint is advice for a failure in which the aws command says certain words.
type hint struct{ words, advice string }

// The names of saved values.
const (
	workFolder = "<work>"         // the folder of files
	rootKey    = "key of users"   // the id of the key that wraps users' keys
	cursorKey  = "key of cursors" // a secret
)

func streamOf(region string) string { return "stream of " + region }

// planner collects steps, and the first error.
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

// plan returns the steps that lead from a state to the settings. It changes nothing and depends on
// nothing else.
func plan(s settings, st state, t templates) ([]step, error) {
	p := &planner{s: s, st: st, t: t}
	p.uploads()
	p.log()
	p.add(step{title: st.home + ": find the key that wraps users' keys", save: rootKey, args: []string{
		"cloudformation", "describe-stacks", "--region", st.home, "--stack-name", s.globalStack(),
		"--query", "Stacks[0].Outputs[?OutputKey=='KeyId'].OutputValue", "--output", "text",
	}})
	secret := []string{"--region", st.home, "--secret-id", s.cursorSecret()}
	p.add(step{
		title: st.home + ": read the cursor key, which all regions share", save: cursorKey, secret: true,
		args: slices.Concat([]string{"secretsmanager", "get-secret-value"}, secret, []string{"--query", "SecretString", "--output", "text"}),
		hints: []hint{
			{noSecret, p.anotherSecret()},
			{"marked for deletion", "Restore it and run this again:\n  " + line(append([]string{"secretsmanager", "restore-secret"}, secret...))},
		},
	})
	for _, region := range s.regions {
		p.region(region)
	}
	p.removal()
	return p.steps, p.err
}

// anotherSecret says what to do if the cursor key is lost: its stack does not notice.
func (p *planner) anotherSecret() string {
	random := []string{"secretsmanager", "get-random-password", "--region", p.st.home, "--password-length", "64", "--exclude-punctuation", "--query", "RandomPassword", "--output", "text"}
	create := []string{"secretsmanager", "create-secret", "--region", p.st.home, "--name", p.s.cursorSecret(), "--secret-string", "file:///dev/stdin"}
	return "It was deleted. Create another and run this again with all regions; every client reloads everything once:\n  " + line(random) + " |\n    " + line(create)
}

// uploads creates the buckets and uploads the code.
func (p *planner) uploads() {
	for _, region := range p.s.regions {
		bucket, has := codeBucket(p.st.account, region), p.st.regions[region]
		if !has.bucket {
			args := []string{"s3api", "create-bucket", "--region", region, "--bucket", bucket}
			if region != "us-east-1" { // the default, which must not be given as a constraint
				args = append(args, "--create-bucket-configuration", "LocationConstraint="+region)
			}
			p.add(step{title: region + ": create the bucket for code, " + bucket, costs: costBucket, args: args})
			p.add(step{title: region + ": block public access to it", args: []string{
				"s3api", "put-public-access-block", "--region", region, "--bucket", bucket, "--public-access-block-configuration",
				"BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true",
			}})
		}
		if !has.code {
			p.add(step{title: region + ": upload the binary", args: []string{
				"s3api", "put-object", "--region", region, "--bucket", bucket, "--expected-bucket-owner", p.st.account, "--key", p.st.code.key, "--body", workFolder + "/" + codeFile,
			}})
		}
	}
}

// log creates the event table or updates it, and then adds missing replicas: CloudFormation takes
// one in an update, and nothing else with it.
func (p *planner) log() {
	have, title := p.st.replicas, "update the log"
	if len(have) == 0 {
		have = p.s.regions // a table is created with all of its replicas at once
		title = "create the log, with a replica in " + strings.Join(have, ", ")
	}
	p.global("global.yaml", title, costLog, have, "")
	for _, region := range p.st.newRegions(p.s.regions) {
		have = append(slices.Clone(have), region)
		p.global("global-"+region+".yaml", "add a replica in "+region+", which gets all existing events", costReplica, have, "")
	}
}

func (p *planner) global(file, title, costs string, regions []string, unprotected string) {
	p.stack(p.s.globalStack(), p.st.home, file, p.template(p.t.forGlobal(regions, unprotected)), title, costs, []string{
		"Stage=" + p.s.stage, "Consistency=" + strings.ToUpper(p.s.consistency), "WarmWrites=" + strconv.Itoa(p.s.warmWrites),
	})
}

// stack deploys a stack, and succeeds if nothing has changed.
func (p *planner) stack(stack, region, file, text, title, costs string, parameters []string) {
	args := []string{
		"cloudformation", "deploy", "--region", region, "--stack-name", stack, "--template-file", workFolder + "/" + file,
		"--s3-bucket", codeBucket(p.st.account, region), "--s3-prefix", "templates",
		"--capabilities", "CAPABILITY_NAMED_IAM", "--no-fail-on-empty-changeset", "--tags", "parley=" + p.s.stage, overrides,
	}
	command := func(operation string) string {
		return "\n  " + line([]string{"cloudformation", operation, "--region", region, "--stack-name", stack})
	}
	p.add(step{title: region + ": " + title, costs: costs, args: append(args, parameters...), file: file, text: text, slow: true, hints: []hint{
		{"UPDATE_ROLLBACK_FAILED", "The stack is stuck. See why, and let it continue:" + command("describe-stack-events") + command("continue-update-rollback")},
		{"ROLLBACK_COMPLETE", "The stack could not be created. See why, and delete it; tables stay:" + command("describe-stack-events") + command("delete-stack")},
		{"_IN_PROGRESS", "The stack is being changed. Wait until that is over."},
	}})
}

// region creates a region's stack or updates it.
func (p *planner) region(region string) {
	p.add(step{title: region + ": find the change stream of the log", save: streamOf(region), args: []string{
		"dynamodb", "describe-table", "--region", region, "--table-name", p.s.eventsTable(), "--query", "Table.LatestStreamArn", "--output", "text",
	}})
	var others []string
	if !p.s.strong() { // a strongly consistent table has no replication lag
		others = slices.DeleteFunc(p.members(), func(other string) bool { return other == region })
	}
	text, file := p.template(p.t.forRegion(others)), "region-"+region+".yaml"
	const what = "the API, functions, views and bus"
	if p.st.regions[region].stack == "" { // a table that a failed creation leaves behind must not be protected
		p.stack(p.s.regionStack(), region, file, text, "create "+what, p.costRegion(), p.parameters(region, false))
		p.stack(p.s.regionStack(), region, file, text, "protect the views from deletion", "", p.parameters(region, true))
	} else {
		p.stack(p.s.regionStack(), region, file, text, "update "+what, p.costRegion(), p.parameters(region, true))
	}
}

// members returns the regions of the log after the deployment.
func (p *planner) members() []string {
	all := slices.Clone(p.s.regions)
	for _, region := range p.st.replicas {
		if !slices.Contains(all, region) && region != p.s.remove {
			all = append(all, region)
		}
	}
	return all
}

// parameters returns all parameters of region.yaml: one that is omitted would keep its last value.
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
		"Leeway=" + s.leeway.String(),
		"CursorKey=<" + cursorKey + ">",
		"KeyId=<" + rootKey + ">",
		"KeyFrom=" + p.st.keyFrom(region),
		"Origins=" + strings.Join(s.origins, ","),
		"UserRate=" + strconv.Itoa(s.userRate),
		"ApiRate=" + strconv.Itoa(s.apiRate),
		"ApiBurst=" + strconv.Itoa(s.apiBurst),
		"Publish=" + s.publish,
		fmt.Sprintf("BatchWindow=%d", int(s.batchWindow.Seconds())),
		"Beats=" + strconv.Itoa(s.beats),
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

// removal removes a region: first its API, last its replica. By then everything that it accepted
// has been replicated.
func (p *planner) removal() {
	if p.s.remove == "" {
		return
	}
	remove, on := p.s.remove, []string{"--region", p.s.remove, "--stack-name", p.s.regionStack()}
	if p.st.regions[remove].stack != "" {
		p.add(step{title: remove + ": delete the API, functions and bus", args: append([]string{"cloudformation", "delete-stack"}, on...)})
		p.add(step{title: remove + ": wait until they are deleted", args: append([]string{"cloudformation", "wait", "stack-delete-complete"}, on...), slow: true})
	}
	if slices.Contains(p.st.replicas, remove) {
		rest := p.members()
		p.global("global-open.yaml", "allow the replica in "+remove+" to be deleted", "", append(slices.Clone(rest), remove), remove)
		p.global("global-rest.yaml", "delete the replica in "+remove+"; the events stay in "+strings.Join(rest, ", "), "", rest, "")
	}
}

// describe returns a step as it is printed.
func (s step) describe(n, of int) string {
	text := fmt.Sprintf("[%d/%d] %s\n", n, of, s.title)
	if s.costs != "" {
		text += "    costs: " + s.costs + "\n"
	}
	return text + "    " + line(s.args) + "\n"
}

// plainWord matches words that a shell takes literally.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// line returns a command line of aws, quoted for a shell.
func line(args []string) string {
	words := []string{"aws"}
	for _, arg := range args {
		if !plainWord.MatchString(arg) {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}
