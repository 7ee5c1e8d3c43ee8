package main

import (
	"context"
	"reflect"
	"strings"
	"testing"
)

// The state may not allow what the settings ask for.
func TestCheckState(t *testing.T) {
	both := func(change func(*state)) state {
		st := running("us-east-1", "eu-west-1")
		change(&st)
		return st
	}
	with := func(region string, r regionState) state {
		return both(func(st *state) { st.regions[region] = r })
	}
	strong := []string{"-consistency", "strong", "-regions", "us-east-1,us-east-2,us-west-2"}
	for _, tt := range []struct {
		name string
		args []string
		st   state
		want string // "" if it is not refused
	}{
		{"all well", nil, both(func(*state) {}), ""},
		{"nothing there", nil, state{home: "us-east-1"}, ""},
		{"rolled back after an update", nil, with("eu-west-1", regionState{stack: "UPDATE_ROLLBACK_COMPLETE", views: true}), ""},
		{"old views", nil, with("eu-west-1", regionState{views: true}), "aws dynamodb delete-table --region eu-west-1 --table-name parley-prod-views"},
		{"no topic", []string{"-alarm-topic", "x"}, with("eu-west-1", regionState{stack: "CREATE_COMPLETE", noTopic: true}), "aws sns create-topic --region eu-west-1 --name x"},
		{"stack elsewhere", nil, state{home: "us-east-1", orphan: "parley-prod-events", orphanIn: "eu-west-1"}, "eu-west-1 has a table parley-prod-events, but its stack parley-prod-global is in none of the -regions"},
		{"keys left", nil, state{home: "us-east-1", orphan: "parley-prod-keys", orphanIn: "eu-west-1"}, "eu-west-1 has a table parley-prod-keys, but its stack"},
		{"a key on its way", nil, with("eu-west-1", regionState{stack: "CREATE_COMPLETE", views: true, key: "Creating"}), ""},
		{"a key nearly deleted", nil, with("eu-west-1", regionState{stack: "CREATE_COMPLETE", views: true, key: "PendingDeletion"}), "  aws kms cancel-key-deletion --region eu-west-1 --key-id mrk-0123456789abcdef0123456789abcdef\n  aws kms enable-key --region eu-west-1"},
		{"a key not in use", nil, with("us-east-1", regionState{stack: "CREATE_COMPLETE", views: true, key: "Disabled"}), "us-east-1: the key that wraps users' keys is not usable (Disabled), so no message can be read there. Make it usable and run this again:\n  aws kms enable-key"},
		{"a region's key that is to go", []string{"-regions", "us-east-1", "-remove", "eu-west-1"}, with("eu-west-1", regionState{stack: "CREATE_COMPLETE", views: true, key: "PendingDeletion"}), ""},
		{"strong is for good", nil, both(func(st *state) { st.strong = true }), "was created with strong consistency and keeps it"},
		{"eventual is for good", strong, running("us-east-1", "us-east-2", "us-west-2"), "was created with eventual consistency and keeps it"},
		{"a strong table has its three", strong, func() state {
			st := running("us-east-1", "us-east-2", "us-west-1")
			st.strong = true
			return st
		}(), "keeps its three regions, us-east-1, us-east-2, us-west-1; us-west-2 is not one of them"},
		{"home", []string{"-regions", "eu-west-1", "-remove", "us-east-1"}, both(func(*state) {}), "us-east-1 has the stack of the log"},
		{"never there", []string{"-regions", "us-east-1", "-remove", "ap-south-1"}, both(func(*state) {}), "there is no Parley prod in ap-south-1; it is in us-east-1, eu-west-1"},
		{"half removed", []string{"-regions", "us-east-1", "-remove", "eu-west-1"}, with("eu-west-1", regionState{views: true}), ""},
		{"key left", nil, state{home: "us-east-1", secret: true}, "aws secretsmanager delete-secret --region us-east-1 --secret-id parley-prod-cursors --force-delete-without-recovery"},
		{"no zone", []string{"-domain", "a.example.com", "-zone", "Z1"}, both(func(*state) {}), "this account has no hosted zone Z1"},
		{"another's zone", []string{"-domain", "a.example.com", "-zone", "Z1"}, both(func(st *state) { st.zoneName = "ample.com." }), "a.example.com is not in the hosted zone Z1, which is ample.com"},
		{"sockets in another's zone", []string{"-domain", "a.example.com", "-zone", "Z1", "-live-domain", "live.example.org"}, both(func(st *state) { st.zoneName = "example.com." }), "-live-domain: live.example.org is not in the hosted zone Z1"},
		{"its zone", []string{"-domain", "a.example.com", "-zone", "Z1"}, both(func(st *state) { st.zoneName = "example.com." }), ""},
	} {
		err := checkState(parsed(t, good(tt.args...)...), tt.st)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// answers plays the aws command for readState: the answer to a question, by words in it. Whatever is
// not named does not exist.
func answers(known map[string]string) aws {
	return func(_ context.Context, args ...string) (string, error) {
		for words, answer := range known {
			if strings.Contains(line(args), words) {
				return answer, nil
			}
		}
		return "", &awsError{args[1], "does not exist, ResourceNotFoundException, NotFoundException, NoSuchHostedZone, (404)"}
	}
}

// TestReadState reads an account with nothing, and one in which Parley runs in two regions.
func TestReadState(t *testing.T) {
	const account = `{"Account":"123456789012"}`
	s := parsed(t, good("-alarm-topic", "x", "-domain", "a.example.com", "-zone", "Z1")...)
	st, err := readState(&reader{ctx: t.Context(), aws: answers(map[string]string{"get-caller-identity": account, "get-account": "None\n"})}, s)
	nothing := regionState{noTopic: true}
	want := state{account: "123456789012", home: "us-east-1", regions: map[string]regionState{"us-east-1": nothing, "eu-west-1": nothing}}
	if err != nil || !reflect.DeepEqual(st, want) {
		t.Errorf("an empty account: %+v, %v", st, err)
	}
	st, err = readState(&reader{ctx: t.Context(), aws: answers(map[string]string{
		"get-caller-identity": account, "get-account": "arn:aws:iam::123456789012:role/logs\n", "get-topic-attributes": "{}", "get-hosted-zone": "example.com.\n",
		"eu-west-1 --stack-name parley-prod-global": `{"StackStatus":"UPDATE_COMPLETE","Outputs":[{"OutputKey":"KeyId","OutputValue":"mrk-1"}]}`,
		"us-east-1 --stack-name parley-prod-region": `{"StackStatus":"CREATE_COMPLETE","Parameters":[{"ParameterKey":"KeyFrom","ParameterValue":"eu-west-1"}]}`,
		"eu-west-1 --stack-name parley-prod-region": `{"StackStatus":"REVIEW_IN_PROGRESS"}`,
		"eu-west-1 --table-name parley-prod-events": `{"MultiRegionConsistency":"STRONG","Replicas":[{"RegionName":"us-east-1"},{"RegionName":"eu-west-1"}]}`,
		"us-east-1 --table-name parley-prod-views":  "{}", "describe-secret": "{}", "head-bucket --region us-east-1": "", "kms describe-key": "Enabled\n",
	})}, s)
	want = state{
		account: "123456789012", home: "eu-west-1", global: "UPDATE_COMPLETE", replicas: []string{"eu-west-1", "us-east-1"}, strong: true, keyID: "mrk-1", secret: true, zoneName: "example.com.",
		regions: map[string]regionState{
			"us-east-1": {stack: "CREATE_COMPLETE", views: true, logRole: true, bucket: true, key: "Enabled", keyFrom: "eu-west-1"},
			"eu-west-1": {logRole: true, key: "Enabled"},
		},
	}
	if err != nil || !reflect.DeepEqual(st, want) {
		t.Errorf("a running Parley: %+v, %v", st, err)
	}
	for _, table := range []string{"parley-prod-events", "parley-prod-keys"} {
		st, err = readState(&reader{ctx: t.Context(), aws: answers(map[string]string{"get-caller-identity": account, "get-account": "None", "eu-west-1 --table-name " + table: "{}"})}, s)
		if err != nil || st.orphan != table || st.orphanIn != "eu-west-1" {
			t.Errorf("a table without a stack: %+v, %v", st, err)
		}
	}
}
