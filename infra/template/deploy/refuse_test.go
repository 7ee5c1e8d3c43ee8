package main

import (
	"strings"
	"testing"
)

// What is there may not allow what is asked for. It is said before anything is done.
func TestRefuse(t *testing.T) {
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
		{"busy", nil, with("eu-west-1", regionState{stack: "UPDATE_IN_PROGRESS", views: true}), "eu-west-1: the stack parley-prod-region is being changed (UPDATE_IN_PROGRESS). Wait"},
		{"busy log", nil, both(func(st *state) { st.global = "CREATE_IN_PROGRESS" }), "us-east-1: the stack parley-prod-global is being changed"},
		{"never made", nil, with("us-east-1", regionState{stack: "ROLLBACK_COMPLETE"}), "aws cloudformation delete-stack --region us-east-1 --stack-name parley-prod-region"},
		{"stuck", nil, with("us-east-1", regionState{stack: "UPDATE_ROLLBACK_FAILED"}), "aws cloudformation continue-update-rollback --region us-east-1"},
		{"old views", nil, with("eu-west-1", regionState{views: true}), "aws dynamodb delete-table --region eu-west-1 --table-name parley-prod-views"},
		{"no topic", []string{"-alarm-topic", "x"}, with("eu-west-1", regionState{stack: "CREATE_COMPLETE", noTopic: true}), "aws sns create-topic --region eu-west-1 --name x"},
		{"stack elsewhere", nil, state{home: "us-east-1", left: "parley-prod-events", leftIn: "eu-west-1"}, "eu-west-1 has a table parley-prod-events, but its stack parley-prod-global is in none of the -regions"},
		{"keys left", nil, state{home: "us-east-1", left: "parley-prod-keys", leftIn: "eu-west-1"}, "eu-west-1 has a table parley-prod-keys, but its stack"},
		{"a key on its way", nil, with("eu-west-1", regionState{stack: "CREATE_COMPLETE", views: true, key: "Creating"}), ""},
		{"a key nearly deleted", nil, with("eu-west-1", regionState{stack: "CREATE_COMPLETE", views: true, key: "PendingDeletion"}), "  aws kms cancel-key-deletion --region eu-west-1 --key-id mrk-0123456789abcdef0123456789abcdef\n  aws kms enable-key --region eu-west-1"},
		{"a key not in use", nil, with("us-east-1", regionState{stack: "CREATE_COMPLETE", views: true, key: "Disabled"}), "us-east-1: the key that wraps users' keys is not in use (Disabled), so no message can be read there. Use it again, and run this again:\n  aws kms enable-key"},
		{"a region's key that is to go", []string{"-regions", "us-east-1", "-remove", "eu-west-1"}, with("eu-west-1", regionState{stack: "CREATE_COMPLETE", views: true, key: "PendingDeletion"}), ""},
		{"strong is for good", nil, both(func(st *state) { st.strong = true }), "was made with strong consistency, and keeps it"},
		{"eventual is for good", strong, running("us-east-1", "us-east-2", "us-west-2"), "was made with eventual consistency, and keeps it"},
		{"a strong table has its three", strong, func() state {
			st := running("us-east-1", "us-east-2", "us-west-1")
			st.strong = true
			return st
		}(), "keeps its three regions, us-east-1, us-east-2, us-west-1; us-west-2 is none of them"},
		{"home", []string{"-regions", "eu-west-1", "-remove", "us-east-1"}, both(func(*state) {}), "us-east-1 holds the stack of the log"},
		{"never there", []string{"-regions", "us-east-1", "-remove", "ap-south-1"}, both(func(*state) {}), "there is no Parley prod in ap-south-1; it is in us-east-1, eu-west-1"},
		{"half removed", []string{"-regions", "us-east-1", "-remove", "eu-west-1"}, with("eu-west-1", regionState{views: true}), ""},
		{"key left", nil, state{home: "us-east-1", key: keyThere}, "aws secretsmanager delete-secret --region us-east-1 --secret-id parley-prod-cursors --force-delete-without-recovery"},
		{"key left, nearly gone", nil, state{home: "us-east-1", key: keyDeleted}, "us-east-1 has a secret parley-prod-cursors but no stack parley-prod-global"},
		{"key deleted", nil, both(func(st *state) { st.key = keyDeleted }), "aws secretsmanager restore-secret --region us-east-1 --secret-id parley-prod-cursors"},
		{"key from now on", nil, both(func(st *state) { st.key = keyNone }), ""},
		{"no zone", []string{"-domain", "a.example.com", "-zone", "Z1"}, both(func(*state) {}), "this account has no hosted zone Z1"},
		{"another's zone", []string{"-domain", "a.example.com", "-zone", "Z1"}, both(func(st *state) { st.zoneName = "ample.com." }), "a.example.com does not lie in the hosted zone Z1, which is ample.com"},
		{"sockets in another's zone", []string{"-domain", "a.example.com", "-zone", "Z1", "-live-domain", "live.example.org"}, both(func(st *state) { st.zoneName = "example.com." }), "-live-domain: live.example.org does not lie in the hosted zone Z1"},
		{"its zone", []string{"-domain", "a.example.com", "-zone", "Z1"}, both(func(st *state) { st.zoneName = "example.com." }), ""},
	} {
		err := refuse(parsed(t, good(tt.args...)...), tt.st)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
