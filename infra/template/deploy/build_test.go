package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// The same binary gives the same object whenever it is zipped.
func TestZip(t *testing.T) {
	binary := bytes.Repeat([]byte("a binary, "), 10_000)
	first, err := zipBootstrap(binary)
	if err != nil {
		t.Fatal(err)
	}
	again, err := zipBootstrap(bytes.Clone(binary))
	if err != nil || !bytes.Equal(first, again) {
		t.Error("zipped again it is another", err)
	}
	other, err := zipBootstrap(append(binary, '!'))
	if err != nil || codeKey(other) == codeKey(first) {
		t.Error("another binary has the same key", err)
	}
	r, err := zip.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil || len(r.File) != 1 {
		t.Fatal(err)
	}
	f := r.File[0]
	if f.Name != "bootstrap" || f.Mode() != 0o755 || f.Method != zip.Deflate {
		t.Errorf("%s %v", f.Name, f.Mode())
	}
	content, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(content); err != nil || !bytes.Equal(text, binary) {
		t.Error("it is not what was zipped", err)
	}
}

// module makes a module with one program.
func module(t *testing.T, program string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module parley\n\ngo 1.26\n", "main.go": program} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// The same code gives the same object in whatever folder it is built.
func TestBuild(t *testing.T) {
	const program = "package main\n\nfunc main() { println(\"hello\") }\n"
	var keys []string
	for range 2 {
		c, err := build(t.Context(), module(t, program), ".", t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(c.file); err != nil {
			t.Error(err)
		}
		keys = append(keys, c.key)
	}
	if keys[0] != keys[1] || !strings.HasPrefix(keys[0], "parley/") || !strings.HasSuffix(keys[0], ".zip") {
		t.Errorf("the keys are %q", keys)
	}
	if _, err := build(t.Context(), module(t, "package main\n\nfunc main() { nonsense }\n"), ".", t.TempDir()); err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("what does not compile: %v", err)
	}
}

// shape is a template, as far as these tests look.
type shape struct {
	Parameters map[string]any `yaml:"Parameters"`
	Resources  map[string]struct {
		Properties struct {
			Replicas []struct {
				Region                    string `yaml:"Region"`
				DeletionProtectionEnabled bool   `yaml:"DeletionProtectionEnabled"`
			} `yaml:"Replicas"`
			Dimensions []struct {
				Name  string    `yaml:"Name"`
				Value yaml.Node `yaml:"Value"`
			} `yaml:"Dimensions"`
		} `yaml:"Properties"`
	} `yaml:"Resources"`
}

func shapeOf(t *testing.T, text string, err error) shape {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var s shape
	if err := yaml.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// The log has a replica for each region, and only that which is to go may be deleted.
func TestForGlobal(t *testing.T) {
	regions := []string{"us-east-1", "eu-west-1", "ap-southeast-2", "us-gov-west-1"}
	for n := 1; n <= len(regions); n++ {
		text, err := readAll(t).forGlobal(regions[:n], "eu-west-1")
		for _, table := range []string{"Events", "Keys"} {
			var got []string
			for _, r := range shapeOf(t, text, err).Resources[table].Properties.Replicas {
				got = append(got, r.Region)
				if r.DeletionProtectionEnabled != (r.Region != "eu-west-1") {
					t.Errorf("%s: %s is protected: %v", table, r.Region, r.DeletionProtectionEnabled)
				}
			}
			if want := slices.Sorted(slices.Values(regions[:n])); !slices.Equal(got, want) {
				t.Errorf("%s: the replicas are %v, want %v", table, got, want)
			}
		}
	}
}

// A region has an alarm for each other, of a name of its own.
func TestForRegion(t *testing.T) {
	for _, others := range [][]string{nil, {"us-east-1"}, {"ap-southeast-2", "us-gov-west-1", "eu-west-1"}} {
		text, err := readAll(t).forRegion(others)
		var got []string
		for id, r := range shapeOf(t, text, err).Resources {
			for _, d := range r.Properties.Dimensions {
				if d.Name == "ReceivingRegion" {
					got = append(got, d.Value.Value)
					if id != "ReplicationAlarm"+camel(d.Value.Value) {
						t.Errorf("%s is about %s", id, d.Value.Value)
					}
				}
			}
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(others)); !slices.Equal(got, want) {
			t.Errorf("the alarms are for %v, want %v", got, want)
		}
		if strings.Contains(text, "replication-eu-west-1") && !slices.Contains(others, "eu-west-1") {
			t.Error("the sample is left")
		}
	}
}

// A template in which the block is not found must not be deployed.
func TestRepeatRefuses(t *testing.T) {
	for _, text := range []string{"", "# x: begin\na-b-1\n", "# x: end\na-b-1\n# x: begin\n", "# x: begin\nother\n# x: end\n", "# x: begin\na-b-1\n# x: end\n# x: begin\n"} {
		if _, err := repeat(text, "x", "a-b-1", nil, nil); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Every parameter is given in each run: one that is left out would keep its last value. And none
// is given that is not there.
func TestParameters(t *testing.T) {
	titles, steps := planned(t, parsed(t, good()...), running("us-east-1", "eu-west-1"))
	for i, s := range steps {
		at := slices.Index(s.args, "--parameter-overrides")
		if at < 0 {
			continue
		}
		var given []string
		for _, p := range s.args[at+1:] {
			name, _, _ := strings.Cut(p, "=")
			given = append(given, name)
		}
		slices.Sort(given)
		var want []string
		for name := range shapeOf(t, s.text, nil).Parameters {
			want = append(want, name)
		}
		slices.Sort(want)
		if !slices.Equal(given, want) {
			t.Errorf("%s: given are\n%v, there are\n%v", titles[i], given, want)
		}
	}
}

// What is deployed lints as well as what is in the folder.
func TestLintRendered(t *testing.T) {
	linter, err := exec.LookPath("cfn-lint")
	if err != nil {
		t.Skip("cfn-lint is not on the PATH: pip install cfn-lint")
	}
	dir := t.TempDir()
	write := func(name, text string, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	global, err := readAll(t).forGlobal([]string{"us-east-1", "eu-west-1", "ap-southeast-2", "sa-east-1"}, "sa-east-1")
	write("global.yaml", global, err)
	alone, err := readAll(t).forRegion(nil)
	write("alone.yaml", alone, err)
	among, err := readAll(t).forRegion([]string{"us-east-1", "ap-southeast-2", "sa-east-1"})
	write("among.yaml", among, err)
	args := []string{"-r", "us-east-1", "--"}
	for _, name := range []string{"global.yaml", "alone.yaml", "among.yaml"} {
		args = append(args, filepath.Join(dir, name))
	}
	if said, err := exec.Command(linter, args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
