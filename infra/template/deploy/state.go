package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// state is what exists before anything is changed.
type state struct {
	account  string
	home     string // the region of the log's stack; before that exists, the first of -regions
	global   string // the status of the log's stack, "" if there is none
	replicas []string
	strong   bool
	keyID    string // of the key that wraps users' keys, "" if there is none yet
	orphan   string // a table of the log without the log's stack, and the region it is in
	orphanIn string
	secret   bool // the cursor key exists
	regions  map[string]regionState
	zoneName string // of -zone, "" without one
	code     code
}

// regionState is what exists in one region.
type regionState struct {
	stack   string // the status of the region's stack, "" if there is none
	views   bool   // the table of views
	noTopic bool   // the topic for alarms is missing
	logRole bool   // API Gateway has a role to write access logs of WebSocket APIs
	bucket  bool   // the bucket for code
	code    bool   // the bucket has this code
	key     string // the state of the key that wraps users' keys, "" if there is none
	keyFrom string // the region whose key this stack has replicated, "" if it has made none
}

// The words by which the aws command says that something does not exist.
const (
	noStack  = "does not exist"
	noTable  = "ResourceNotFoundException"
	noSecret = "ResourceNotFoundException"
	noZone   = "NoSuchHostedZone"
	noTopic  = "NotFound"
	noObject = "(404)"
	noKey    = "NotFoundException"
)

// reader asks AWS questions that change nothing. It keeps the first error: from then on it asks
// nothing and every answer is "".
type reader struct {
	ctx    context.Context
	aws    aws
	err    error
	dryRun io.Writer // if not nil, questions are printed there, and every answer is ""
}

// ask returns the answer of a command. If the answer is that the thing does not exist, it returns ""
// and false.
func (q *reader) ask(missing string, args ...string) (answer string, exists bool) {
	if q.dryRun != nil {
		fmt.Fprintf(q.dryRun, "    %s\n", line(args))
		return "", false
	}
	if q.err != nil {
		return "", false
	}
	text, err := q.aws(q.ctx, args...)
	switch {
	case err == nil:
		return strings.TrimSpace(text), true
	case missing != "" && says(err, missing):
		return "", false
	case says(err, "Could not connect to the endpoint", "UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure"):
		err = fmt.Errorf("%w\n-regions may name only regions that this account has enabled: `aws account list-regions` lists them", err)
	}
	q.err = err
	return "", false
}

// decode decodes an answer in JSON; "" is none.
func (q *reader) decode(text string, into any) {
	if text != "" && q.err == nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			q.err = fmt.Errorf("read an answer of the aws command: %w", err)
		}
	}
}

// stack is a stack of CloudFormation, empty if there is none.
type stack struct {
	status              string
	outputs, parameters map[string]string
}

func (q *reader) stack(name, region string) (found stack) {
	text, _ := q.ask(noStack, "cloudformation", "describe-stacks", "--region", region, "--stack-name", name, "--query", "Stacks[0]", "--output", "json")
	var s struct {
		StackStatus string
		Outputs     []struct{ OutputKey, OutputValue string }
		Parameters  []struct{ ParameterKey, ParameterValue string }
	}
	q.decode(text, &s)
	if s.StackStatus == "" || s.StackStatus == "REVIEW_IN_PROGRESS" { // a first run that ended before anything was made
		return stack{}
	}
	found = stack{s.StackStatus, map[string]string{}, map[string]string{}}
	for _, o := range s.Outputs {
		found.outputs[o.OutputKey] = o.OutputValue
	}
	for _, p := range s.Parameters {
		found.parameters[p.ParameterKey] = p.ParameterValue
	}
	return found
}

// table describes a table, in JSON.
func (q *reader) table(name, region string) (text string, exists bool) {
	return q.ask(noTable, "dynamodb", "describe-table", "--region", region, "--table-name", name, "--query", "Table", "--output", "json")
}

// readState finds out what exists.
func readState(q *reader, s settings) (state, error) {
	st := state{account: "<account>", home: s.regions[0], regions: map[string]regionState{}}
	text, _ := q.ask("", "sts", "get-caller-identity", "--region", st.home, "--output", "json")
	if says(q.err, "Unable to locate credentials", "ExpiredToken", "InvalidClientTokenId", "expired", "credentials") {
		return st, fmt.Errorf("the aws command has no valid credentials: run `aws configure` or `aws sso login`, or set AWS_PROFILE; or try -dry-run, which needs none (%w)", q.err)
	}
	caller := struct{ Account *string }{&st.account}
	q.decode(text, &caller)
	st.readLog(q, s)
	_, st.secret = q.ask(noSecret, "secretsmanager", "describe-secret", "--region", st.home, "--secret-id", s.cursorSecret())
	for _, region := range s.touched() {
		st.regions[region] = st.readRegion(q, s, region)
	}
	if s.zone != "" {
		st.zoneName, _ = q.ask(noZone, "route53", "get-hosted-zone", "--region", st.home, "--id", s.zone, "--query", "HostedZone.Name", "--output", "text")
	}
	return st, q.err
}

// readLog finds the log's stack, whichever region it is in, and the replicas of its table. Without a
// stack it looks for tables that were left by one, or belong to one in another region.
func (st *state) readLog(q *reader, s settings) {
	for _, region := range s.touched() {
		if found := q.stack(s.globalStack(), region); found.status != "" {
			st.home, st.global, st.keyID = region, found.status, found.outputs["KeyId"]
			break
		}
	}
	if st.global == "" {
		for _, region := range s.touched() {
			for _, table := range []string{s.eventsTable(), s.keysTable()} {
				if _, exists := q.table(table, region); exists && st.orphan == "" {
					st.orphan, st.orphanIn = table, region
				}
			}
		}
		return
	}
	text, exists := q.table(s.eventsTable(), st.home)
	if !exists {
		return
	}
	var table struct {
		MultiRegionConsistency string
		Replicas               []struct{ RegionName string }
	}
	q.decode(text, &table)
	st.strong, st.replicas = table.MultiRegionConsistency == "STRONG", []string{st.home}
	for _, r := range table.Replicas {
		if !slices.Contains(st.replicas, r.RegionName) {
			st.replicas = append(st.replicas, r.RegionName)
		}
	}
}

func (st *state) readRegion(q *reader, s settings, region string) (r regionState) {
	found := q.stack(s.regionStack(), region)
	r.stack, r.keyFrom = found.status, found.parameters["KeyFrom"]
	_, r.views = q.table(s.viewsTable(), region)
	if arn := s.topicARN(st.account, region); arn != "" {
		_, exists := q.ask(noTopic, "sns", "get-topic-attributes", "--region", region, "--topic-arn", arn)
		r.noTopic = !exists
	}
	role, _ := q.ask("", "apigateway", "get-account", "--region", region, "--query", "cloudwatchRoleArn", "--output", "text")
	r.logRole = strings.HasPrefix(role, "arn:")
	_, r.bucket = q.ask(noObject, "s3api", "head-bucket", "--region", region, "--bucket", codeBucket(st.account, region), "--expected-bucket-owner", st.account)
	if st.keyID != "" {
		r.key, _ = q.ask(noKey, "kms", "describe-key", "--region", region, "--key-id", st.keyID, "--query", "KeyMetadata.KeyState", "--output", "text")
	}
	return r
}

// findUploads finds out which buckets have the code that was built.
func findUploads(q *reader, s settings, st *state) error {
	for _, region := range s.regions {
		if r := st.regions[region]; r.bucket {
			_, r.code = q.ask(noObject, "s3api", "head-object", "--region", region, "--bucket", codeBucket(st.account, region), "--key", st.code.key)
			st.regions[region] = r
		}
	}
	return q.err
}

// checkState returns why the state does not allow what the settings ask for. It has only what would
// lose or split data, and what CloudFormation finds after minutes or not at all.
func checkState(s settings, st state) error {
	var m mistakes
	command := func(words ...string) string { return "\n  " + line(words) }
	// A second log of the same name would take writes that the first never gets.
	m.unless(st.orphan == "", "%s has a table %s, but its stack %s is in none of the -regions. Add the region of that stack to -regions. "+
		"If there is no such stack, the table is left from a former one: delete it if nobody needs it, or choose another -stage", st.orphanIn, st.orphan, s.globalStack())
	m.unless(st.global != "" || !st.secret, "%s has a secret %s but no stack %s: it is left from a former one and blocks the name. Delete it and run this again:%s",
		st.home, s.cursorSecret(), s.globalStack(),
		command("secretsmanager", "delete-secret", "--region", st.home, "--secret-id", s.cursorSecret(), "--force-delete-without-recovery"))
	if len(st.replicas) > 0 {
		has := map[bool]string{false: "eventual", true: "strong"}[st.strong]
		m.unless(s.strong() == st.strong, "-consistency: the table %s was created with %s consistency and keeps it; give -consistency %s, or choose another -stage", s.eventsTable(), has, has)
		for _, region := range s.regions {
			m.unless(!s.strong() || !st.strong || slices.Contains(st.replicas, region), "-regions: a table with strong consistency keeps its three regions, %s; %s is not one of them", strings.Join(st.replicas, ", "), region)
		}
	}
	if s.remove != "" {
		m.unless(s.remove != st.home, "-remove: %s has the stack of the log, %s, and cannot be removed", s.remove, s.globalStack())
		m.unless(slices.Contains(st.replicas, s.remove) || st.regions[s.remove].stack != "", "-remove: there is no Parley %s in %s; it is in %s", s.stage, s.remove, strings.Join(st.replicas, ", "))
	}
	if s.zone != "" && m.unless(st.zoneName != "", "-zone: this account has no hosted zone %s; `aws route53 list-hosted-zones` lists its zones", s.zone) {
		zone := strings.TrimSuffix(st.zoneName, ".")
		for _, f := range [][2]string{{"-domain", s.domain}, {"-live-domain", s.liveDomain}} { // a certificate would be waited for in vain
			m.unless(f[1] == zone || strings.HasSuffix(f[1], "."+zone), "%s: %s is not in the hosted zone %s, which is %s", f[0], f[1], s.zone, zone)
		}
	}
	for _, region := range s.regions {
		r := st.regions[region]
		m.unless(r.stack != "" || !r.views, "%s has a table %s but no stack %s: it is left from a former one and lacks all later events. If nobody needs it, delete it and run this again:%s%s",
			region, s.viewsTable(), s.regionStack(),
			command("dynamodb", "update-table", "--region", region, "--table-name", s.viewsTable(), "--no-deletion-protection-enabled"),
			command("dynamodb", "delete-table", "--region", region, "--table-name", s.viewsTable()))
		m.unless(!r.noTopic, "-alarm-topic: %s has no topic %s. Create it, and subscribe those who should get alarms:%s", region, s.alarmTopic,
			command("sns", "create-topic", "--region", region, "--name", s.alarmTopic))
		use := command("kms", "enable-key", "--region", region, "--key-id", st.keyID)
		if strings.HasPrefix(r.key, "Pending") {
			use = command("kms", "cancel-key-deletion", "--region", region, "--key-id", st.keyID) + use
		}
		m.unless(slices.Contains([]string{"", "Enabled", "Creating", "Updating"}, r.key), "%s: the key that wraps users' keys is not usable (%s), so no message can be read there. Make it usable and run this again:%s", region, r.key, use)
	}
	return errors.Join(m...)
}

// keyFrom returns the region whose key a region's stack replicates, "" if it makes no replica: the
// log's stack made the key, or a former stack left a replica.
func (st state) keyFrom(region string) string {
	r := st.regions[region]
	if region == st.home || r.key != "" && r.keyFrom == "" {
		return ""
	}
	return st.home
}

// newRegions returns those of the regions that an existing log does not have yet.
func (st state) newRegions(regions []string) []string {
	if len(st.replicas) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(regions), func(region string) bool { return slices.Contains(st.replicas, region) })
}

// assume completes the state that a dry run assumes: nothing exists, or, to show the removal of a
// region, all regions do.
func (st *state) assume(s settings) {
	st.code.key = "parley/<sha256>.zip"
	clear(st.regions)
	if s.remove != "" {
		st.replicas = s.touched()
		for _, region := range st.replicas {
			st.regions[region] = regionState{stack: "CREATE_COMPLETE", bucket: true}
		}
	}
}
