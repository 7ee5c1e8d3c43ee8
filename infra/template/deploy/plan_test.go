package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readAll(t *testing.T) templates {
	t.Helper()
	text, err := readTemplates("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// tables is how many the log's stack has: of events, and of users' keys.
const tables = 2

// planned is the plan, as titles and what they cost.
func planned(t *testing.T, s settings, st state) ([]string, []step) {
	t.Helper()
	steps, err := plan(s, st, readAll(t))
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, s := range steps {
		titles = append(titles, s.title)
	}
	return titles, steps
}

// running is the state of a Parley that is up in some regions.
func running(regions ...string) state {
	st := state{account: "123456789012", home: regions[0], global: "UPDATE_COMPLETE", secret: true, keyID: "mrk-0123456789abcdef0123456789abcdef", replicas: regions, regions: map[string]regionState{}, code: code{key: "parley/abc.zip"}}
	for _, region := range regions {
		st.regions[region] = regionState{stack: "CREATE_COMPLETE", views: true, bucket: true, code: true, key: "Enabled"}
		if region != st.home {
			r := st.regions[region]
			r.keyFrom = st.home
			st.regions[region] = r
		}
	}
	return st
}

func TestPlanFirst(t *testing.T) {
	titles, steps := planned(t, parsed(t, good()...), state{account: "123456789012", home: "us-east-1", code: code{key: "parley/abc.zip"}})
	want := []string{
		"us-east-1: create the bucket for code, parley-code-123456789012-us-east-1",
		"us-east-1: block public access to it",
		"us-east-1: upload the binary",
		"eu-west-1: create the bucket for code, parley-code-123456789012-eu-west-1",
		"eu-west-1: block public access to it",
		"eu-west-1: upload the binary",
		"us-east-1: create the log, with a replica in us-east-1, eu-west-1",
		"us-east-1: find the key that wraps users' keys",
		"us-east-1: read the cursor key, which all regions share",
		"us-east-1: find the change stream of the log",
		"us-east-1: create the API, functions, views and bus",
		"us-east-1: protect the views from deletion",
		"eu-west-1: find the change stream of the log",
		"eu-west-1: create the API, functions, views and bus",
		"eu-west-1: protect the views from deletion",
	}
	if diff := cmp.Diff(want, titles); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(line(steps[0].args), "LocationConstraint") || !strings.Contains(line(steps[3].args), "LocationConstraint=eu-west-1") {
		t.Error("us-east-1 alone has no constraint of location")
	}
}

// Nothing new: both stacks are brought up to date, which changes nothing, and nothing is made.
func TestPlanAgain(t *testing.T) {
	titles, _ := planned(t, parsed(t, good()...), running("us-east-1", "eu-west-1"))
	want := []string{
		"us-east-1: update the log",
		"us-east-1: find the key that wraps users' keys",
		"us-east-1: read the cursor key, which all regions share",
		"us-east-1: find the change stream of the log",
		"us-east-1: update the API, functions, views and bus",
		"eu-west-1: find the change stream of the log",
		"eu-west-1: update the API, functions, views and bus",
	}
	if diff := cmp.Diff(want, titles); diff != "" {
		t.Error(diff)
	}
}

// Each new replica is an update of its own, after one that changes all else, and before the
// region's stack. The home stays where it is, whatever the order of -regions.
func TestPlanAddsOneAtATime(t *testing.T) {
	s := parsed(t, good("-regions", "ap-southeast-2,eu-west-1,us-east-1")...)
	titles, steps := planned(t, s, running("us-east-1"))
	var log []string
	var replicas []int
	for i, title := range titles {
		if strings.Contains(line(steps[i].args), "parley-prod-global") && steps[i].slow {
			log = append(log, title)
			replicas = append(replicas, strings.Count(steps[i].text, "- Region: ")/tables)
		}
	}
	want := []string{
		"us-east-1: update the log",
		"us-east-1: add a replica in ap-southeast-2, which gets all existing events",
		"us-east-1: add a replica in eu-west-1, which gets all existing events",
	}
	if diff := cmp.Diff(want, log); diff != "" || !slices.Equal(replicas, []int{1, 2, 3}) {
		t.Error(diff, replicas)
	}
	if slices.Index(titles, want[2]) > slices.Index(titles, "eu-west-1: create the API, functions, views and bus") {
		t.Errorf("a region is made before its replica: %q", titles)
	}
}

// A region that is left out is not removed, and still watched by the others.
func TestPlanRemovesNothingUnasked(t *testing.T) {
	titles, steps := planned(t, parsed(t, good("-regions", "us-east-1")...), running("us-east-1", "eu-west-1"))
	for i, s := range steps {
		if strings.Contains(line(s.args), "delete") {
			t.Errorf("it deletes: %s", titles[i])
		}
		if strings.HasSuffix(s.file, "global.yaml") && !strings.Contains(s.text, "- Region: eu-west-1") {
			t.Error("the replica in eu-west-1 is dropped")
		}
		if strings.HasPrefix(s.file, "region-") && !strings.Contains(s.text, "ReplicationAlarmEuWest1") {
			t.Error("nobody watches eu-west-1")
		}
	}
}

func TestPlanRemoves(t *testing.T) {
	s := parsed(t, good("-regions", "us-east-1,ap-southeast-2", "-remove", "eu-west-1")...)
	titles, steps := planned(t, s, running("us-east-1", "eu-west-1", "ap-southeast-2"))
	want := []string{
		"eu-west-1: delete the API, functions and bus",
		"eu-west-1: wait until they are deleted",
		"us-east-1: allow the replica in eu-west-1 to be deleted",
		"us-east-1: delete the replica in eu-west-1; the events stay in us-east-1, ap-southeast-2",
	}
	if diff := cmp.Diff(want, titles[len(titles)-4:]); diff != "" {
		t.Error(diff)
	}
	open, rest := steps[len(steps)-2].text, steps[len(steps)-1].text
	if strings.Count(open, "DeletionProtectionEnabled: false") != tables || strings.Count(open, "DeletionProtectionEnabled: true") != 2*tables {
		t.Error("not one replica alone may be deleted")
	}
	if strings.Contains(rest, "eu-west-1") || strings.Count(rest, "DeletionProtectionEnabled: true") != 2*tables {
		t.Errorf("left is\n%s", rest)
	}
	for _, s := range steps[:len(steps)-4] {
		if strings.HasPrefix(s.file, "region-") && strings.Contains(s.text, "ReplicationAlarmEuWest1") {
			t.Error("eu-west-1 is still watched")
		}
	}
	for _, s := range steps {
		if strings.Contains(line(s.args), "delete-table") {
			t.Error("it deletes a table")
		}
	}
}

// What sockets do is logged where API Gateway can, and not where the stack would fail by it.
func TestPlanLogsSockets(t *testing.T) {
	st := running("us-east-1", "eu-west-1")
	st.regions["eu-west-1"] = regionState{stack: "CREATE_COMPLETE", bucket: true, logRole: true}
	_, steps := planned(t, parsed(t, good()...), st)
	for _, s := range steps {
		if want := "LiveLog=" + strconv.FormatBool(s.file == "region-eu-west-1.yaml"); strings.HasPrefix(s.file, "region-") && !slices.Contains(s.args, want) {
			t.Errorf("%s: not %s", line(s.args), want)
		}
	}
}

// TestPlanKeys: a region's stack makes a replica of the key, and keeps it, except in the region of the log,
// and where a former stack has left one.
func TestPlanKeys(t *testing.T) {
	from := func(s settings, st state) map[string]string {
		t.Helper()
		got := map[string]string{}
		_, steps := planned(t, s, st)
		for _, s := range steps {
			region, is := strings.CutPrefix(strings.TrimSuffix(s.file, ".yaml"), "region-")
			if !is {
				continue
			}
			if !slices.Contains(s.args, "KeyId=<key of users>") {
				t.Errorf("%s does not get the key", region)
			}
			for _, arg := range s.args {
				if value, is := strings.CutPrefix(arg, "KeyFrom="); is {
					got[region] = value
				}
			}
		}
		return got
	}
	three := parsed(t, good("-regions", "eu-west-1,us-east-1,ap-southeast-2")...)
	first := state{account: "123456789012", home: "us-east-1"}
	before := running("us-east-1", "eu-west-1") // ap-southeast-2 was removed
	before.regions["ap-southeast-2"] = regionState{key: "Enabled"}
	older := running("us-east-1", "eu-west-1", "ap-southeast-2") // made when there were no keys
	older.keyID = ""
	for region, r := range older.regions {
		r.key, r.keyFrom = "", ""
		older.regions[region] = r
	}
	for _, tt := range []struct {
		st   state
		want map[string]string
	}{
		{first, map[string]string{"us-east-1": "", "eu-west-1": "us-east-1", "ap-southeast-2": "us-east-1"}},
		{older, map[string]string{"us-east-1": "", "eu-west-1": "us-east-1", "ap-southeast-2": "us-east-1"}},
		{before, map[string]string{"us-east-1": "", "eu-west-1": "us-east-1", "ap-southeast-2": ""}},
	} {
		if diff := cmp.Diff(tt.want, from(three, tt.st)); diff != "" {
			t.Error(diff)
		}
	}
}

// No replication lags where writes wait for it.
func TestPlanStrong(t *testing.T) {
	s := parsed(t, good("-regions", "us-east-1,us-east-2,us-west-2", "-consistency", "strong")...)
	_, steps := planned(t, s, state{account: "123456789012", home: "us-east-1"})
	for _, s := range steps {
		if s.file == "global.yaml" && (!slices.Contains(s.args, "Consistency=STRONG") || strings.Count(s.text, "- Region: ") != 3*tables) {
			t.Errorf("the log is made by %s", line(s.args))
		}
		if strings.HasPrefix(s.file, "region-") && strings.Contains(s.text, "ReplicationAlarm") {
			t.Error("there is an alarm without data")
		}
	}
}

// The commands of a dry run, held against files. PARLEY_GOLDEN=write writes them anew.
func TestDryRun(t *testing.T) {
	for name, args := range map[string][]string{
		"one":    good("-regions", "us-east-1"),
		"three":  good("-regions", "us-east-1,eu-west-1,ap-southeast-2", "-domain", "api.example.com", "-zone", "Z0123456789ABCDEFGHIJ", "-alarm-topic", "parley-alarms"),
		"strong": good("-regions", "us-east-1,us-east-2,us-west-2", "-consistency", "strong"),
		"remove": good("-regions", "us-east-1", "-remove", "eu-west-1"),
	} {
		t.Setenv("PATH", t.TempDir()) // neither aws nor go is needed
		var out, said bytes.Buffer
		if code := run(t.Context(), append(args, "-dry-run"), &out, &said); code != 0 || said.Len() > 0 {
			t.Fatalf("%s: %d %s", name, code, &said)
		}
		file := filepath.Join("testdata", name+".txt")
		if os.Getenv("PARLEY_GOLDEN") == "write" {
			if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), out.String()); diff != "" {
			t.Errorf("%s (-file +is):\n%s", name, diff)
		}
	}
}
