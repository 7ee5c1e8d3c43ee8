package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"parley/infra/lambda/awstest"
)

// TestMoto deploys with the real aws command into moto, which plays AWS: first to one region, then to
// two. It builds the real binary and does everything else that a deployment does, except for what moto
// cannot:
//   - Its CloudFormation ignores AWS::DynamoDB::GlobalTable, secrets, replicas of keys, the API, its
//     routes, and alarms. The test creates the event table and the secret in its place.
//   - It fails at an archive's pattern, which is omitted, and at a reference to a bus, which is
//     replaced by the name of the bus.
//   - It loses the outputs of a stack made by a change set: the test supplies the endpoint and the key.
//   - It cannot read a template from a bucket at its own address, so templates are sent in the call,
//     which takes at most 50 KB: comments, descriptions of parameters, alarms, the dashboard, routes and
//     log settings are omitted.
//
// So it shows that the aws command accepts the commands, that their order works, that existing
// resources are found, and that these resources can be made of the templates: roles, functions, log
// groups, the key, the views, the trigger, the bus, queues, and the buckets. The rest is left to
// cfn-lint and the tests of the templates.
func TestMoto(t *testing.T) {
	cli := inMoto(t)
	full := readAll(t)
	texts := templates{full.global, forMoto(full.region)}

	first := deployed(t, cli, texts, "us-east-1")
	for _, want := range []string{
		"us-east-1: create the bucket for code", "us-east-1: upload the binary", "create the log, with a replica in us-east-1\n",
		"create the API, functions, views and bus", "https://it.us-east-1.example.com/health",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("the first time it does not say %q:\n%s", want, first)
		}
	}
	checkDeployed(t, cli, "us-east-1")

	second := deployed(t, cli, texts, "eu-west-1", "us-east-1")
	for _, want := range []string{
		"us-east-1: update the log", "us-east-1: add a replica in eu-west-1", "eu-west-1: create the bucket for code",
		"eu-west-1 is new. Its log has all events",
	} {
		if !strings.Contains(second, want) {
			t.Errorf("the second time it does not say %q:\n%s", want, second)
		}
	}
	for _, not := range []string{"us-east-1: create", "us-east-1: upload"} {
		if strings.Contains(second, not) {
			t.Errorf("the second time it says %q:\n%s", not, second)
		}
	}
	checkDeployed(t, cli, "eu-west-1")
}

// deployed runs a deployment and returns its output.
func deployed(t *testing.T, cli aws, texts templates, regions ...string) string {
	t.Helper()
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := parsed(t, "-stage", "it", "-regions", strings.Join(regions, ","), "-issuer", "https://issuer.example.com", "-audience", "parley")
	if err := runDeployment(t.Context(), s, texts, workplace{root, t.TempDir(), cli, &out}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	secret, err := cli(t.Context(), "secretsmanager", "get-secret-value", "--region", "us-east-1", "--secret-id", "parley-it-cursors", "--query", "SecretString", "--output", "text")
	if err != nil || strings.Contains(out.String(), strings.TrimSpace(secret)) {
		t.Fatalf("the cursor key is missing or was printed: %v", err)
	}
	return out.String()
}

// checkDeployed checks what moto has.
func checkDeployed(t *testing.T, cli aws, region string) {
	t.Helper()
	ask := func(into any, args ...string) {
		t.Helper()
		text, err := cli(t.Context(), append(args, "--region", region, "--output", "json")...)
		if err == nil {
			err = json.Unmarshal([]byte(text), into)
		}
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	var function struct {
		Runtime, Handler string
		Environment      struct{ Variables map[string]string }
	}
	ask(&function, "lambda", "get-function-configuration", "--function-name", "parley-it-stream")
	want := map[string]string{
		"PARLEY_EVENTS_TABLE": "parley-it-events", "PARLEY_VIEWS_TABLE": "parley-it-views", "PARLEY_BUS": "parley-it", "PARLEY_PUBLISH": "all", "PARLEY_LOG_LEVEL": "info",
		"PARLEY_CONNECTIONS_TABLE": "parley-it-connections", "PARLEY_KEYS_TABLE": "parley-it-keys", "PARLEY_KMS_KEY": "mrk-0123456789abcdef0123456789abcdef",
	}
	for name, value := range want {
		if got := function.Environment.Variables[name]; got != value {
			t.Errorf("%s: the function's %s is %q", region, name, got)
		}
	}
	if url := function.Environment.Variables["PARLEY_SOCKETS"]; !strings.HasPrefix(url, "https://") || !strings.HasSuffix(url, ".execute-api."+region+".amazonaws.com/live") {
		t.Errorf("%s: the function posts to %q", region, url)
	}
	if function.Runtime != "provided.al2023" || function.Handler != "stream" || len(function.Environment.Variables) != len(want)+2 { // and the cursor key
		t.Errorf("%s: the function is %+v", region, function)
	}
	checkCursorKey(t, cli, region)
	for function, want := range map[string]struct {
		from string
		size int
	}{
		"stream":   {"table/parley-it-events/stream/", 1000},
		"worker":   {"parley-it-jobs", 1},
		"replayer": {"parley-it-replays", 1},
	} {
		var mappings struct {
			EventSourceMappings []struct {
				EventSourceArn string
				BatchSize      int
			}
		}
		ask(&mappings, "lambda", "list-event-source-mappings", "--function-name", "parley-it-"+function)
		if m := mappings.EventSourceMappings; len(m) != 1 || !strings.Contains(m[0].EventSourceArn, ":"+region+":123456789012:"+want.from) || m[0].BatchSize != want.size {
			t.Errorf("%s: the trigger of %s is %+v", region, function, m)
		}
	}
	var role struct{ PolicyNames []string }
	ask(&role, "iam", "list-role-policies", "--role-name", "parley-it-"+region+"-beat")
	if !slices.Equal(role.PolicyNames, []string{"beat"}) {
		t.Errorf("%s: the role of beat has %q", region, role.PolicyNames)
	}
}

// checkCursorKey holds the cursor key in a region against the secret of the log's stack.
func checkCursorKey(t *testing.T, cli aws, region string) {
	t.Helper()
	secret, err := cli(t.Context(), "secretsmanager", "get-secret-value", "--region", "us-east-1", "--secret-id", "parley-it-cursors", "--query", "SecretString", "--output", "text")
	if err != nil {
		t.Fatal(err)
	}
	given, err := cli(t.Context(), "lambda", "get-function-configuration", "--region", region, "--function-name", "parley-it-query", "--query", "Environment.Variables.PARLEY_CURSOR_KEY", "--output", "text")
	if err != nil || strings.TrimSpace(given) != strings.TrimSpace(secret) || len(strings.TrimSpace(given)) != 64 {
		t.Errorf("%s: the cursor key is not that of the secret: %v", region, err)
	}
}

// tooLong is what makes a template longer than moto takes.
var tooLong = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^  (Archive|Dashboard|\w*(Route|Integration)):\n(    .*\n|\n)+`), // at the first it also fails
	regexp.MustCompile(`(?m)^    DependsOn: .*Route.*\n`),
	regexp.MustCompile(`(?m)^      (LoggingConfig|TracingConfig):\n(        .*\n)+`),
	regexp.MustCompile(`(?m)^    Description: (>-\n(      .*\n)+|.*\n)`),
	regexp.MustCompile(`(?m)^ *# [^:\n]*\n|^\n| +# [^:\n]*$`), // "each other region: begin" stays
}

// forMoto removes from the template of a region what moto fails at.
func forMoto(text string) string {
	text = strings.ReplaceAll(text, ": !Ref Bus\n", ": !Sub parley-${Stage}\n")
	before, rest, _ := strings.Cut(text, "\n  # ---- Alarms.")
	_, block, _ := strings.Cut(rest, "\n  # each other region: begin\n")
	resources, _, _ := strings.Cut("\n  # each other region: begin\n"+block, "\nOutputs:\n")
	text = before + resources + "\n"
	for _, long := range tooLong {
		text = long.ReplaceAllString(text, "")
	}
	return text
}

// inMoto starts moto and returns the aws command that uses it in place of AWS, and does what it cannot.
func inMoto(t *testing.T) aws {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: it takes a minute")
	}
	address := awstest.Moto(t)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "") // to be as it was after the test
		_ = os.Unsetenv(name)
	}
	cli, err := findAWS()
	if err != nil {
		t.Skip("needs the aws command: ", err)
	}
	return func(ctx context.Context, args ...string) (string, error) {
		if at := slices.Index(args, "--s3-bucket"); at >= 0 {
			args = slices.Delete(slices.Clone(args), at, at+4)
		}
		if strings.Contains(line(args), "OutputKey==") {
			return "mrk-0123456789abcdef0123456789abcdef", nil
		}
		text, err := cli(ctx, args...)
		if at := slices.Index(args, "--region"); err == nil && slices.Contains(args, "describe-stacks") {
			text = strings.Replace(text, "{", `{"Outputs":[{"OutputKey":"Endpoint","OutputValue":"https://it.`+args[at+1]+`.example.com"}],`, 1)
		}
		if err == nil && slices.Contains(args, "parley-it-global") && slices.Contains(args, "deploy") {
			err = makeTables(ctx, cli, args)
		}
		return text, err
	}
}

// makeTables creates the tables that the stack of the log would have created, in the regions that the
// step's template names.
func makeTables(ctx context.Context, cli aws, deploy []string) error {
	regions := []string{"us-east-1"}
	if slices.ContainsFunc(deploy, func(arg string) bool { return strings.HasSuffix(arg, "global-eu-west-1.yaml") }) {
		regions = []string{"eu-west-1"}
	}
	for _, region := range regions {
		_, err := cli(ctx, "dynamodb", "create-table", "--region", region, "--table-name", "parley-it-events", "--billing-mode", "PAY_PER_REQUEST",
			"--attribute-definitions", "AttributeName=stream,AttributeType=S", "AttributeName=id,AttributeType=S",
			"--key-schema", "AttributeName=stream,KeyType=HASH", "AttributeName=id,KeyType=RANGE",
			"--stream-specification", "StreamEnabled=true,StreamViewType=NEW_IMAGE")
		if err != nil && !says(err, "ResourceInUseException") {
			return err
		}
	}
	_, err := cli(ctx, "secretsmanager", "create-secret", "--region", "us-east-1", "--name", "parley-it-cursors", "--secret-string", strings.Repeat("0123456789abcdef", 4))
	if says(err, "ResourceExistsException") {
		return nil
	}
	return err
}
