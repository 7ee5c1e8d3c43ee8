package template_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// tree is a part of a template: maps, lists, texts, numbers and booleans. What is written !Ref x
// is {"Ref": x}, and !Sub x is {"Fn::Sub": x}.
type tree = map[string]any

// both are the two templates.
type both struct{ global, region tree }

// read parses both templates.
func read(t testing.TB) both {
	t.Helper()
	return both{readTree(t, "global.yaml"), readTree(t, "region.yaml")}
}

func readTree(t testing.TB, name string) tree {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		t.Fatal(err)
	}
	v, err := plain(node.Content[0])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v.(tree)
}

// plain makes a tree of a node.
func plain(n *yaml.Node) (any, error) {
	if function, ok := strings.CutPrefix(n.Tag, "!"); ok && !strings.HasPrefix(function, "!") {
		if function != "Ref" && function != "Condition" {
			function = "Fn::" + function
		}
		inner := *n
		inner.Tag = map[yaml.Kind]string{yaml.ScalarNode: "!!str", yaml.SequenceNode: "!!seq", yaml.MappingNode: "!!map"}[n.Kind]
		v, err := plain(&inner)
		return tree{function: v}, err
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := tree{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("line %d: %s is there twice", n.Content[i].Line, key)
			}
			v, err := plain(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[key] = v
		}
		return m, nil
	case yaml.SequenceNode:
		var l []any
		for _, c := range n.Content {
			v, err := plain(c)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		return l, nil
	}
	var v any
	err := n.Decode(&v)
	return v, err
}

// at returns what is at a path, nil if nothing is. A step is a key, or a place in a list.
func at(v any, path ...string) any {
	for _, step := range path {
		switch here := v.(type) {
		case tree:
			v = here[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(here) {
				return nil
			}
			v = here[i]
		default:
			return nil
		}
	}
	return v
}

// text is what is at a path if it is a text, else "".
func text(v any, path ...string) string {
	s, _ := at(v, path...).(string)
	return s
}

// items is what is at a path as a list: that itself, or a list of it.
func items(v any, path ...string) []any {
	switch here := at(v, path...).(type) {
	case nil:
		return nil
	case []any:
		return here
	default:
		return []any{here}
	}
}

// resources returns those of a type, by logical id.
func resources(v tree, kind string) map[string]tree {
	found := map[string]tree{}
	for id, r := range v["Resources"].(tree) {
		if text(r, "Type") == kind {
			found[id] = r.(tree)
		}
	}
	return found
}

// properties returns those of a resource.
func properties(v tree, id string) tree {
	p, _ := at(v, "Resources", id, "Properties").(tree)
	return p
}

// ref is the logical id that a value refers to, by !Ref, !GetAtt, or a !Sub of an ARN in it.
func ref(v any) string {
	if id := text(v, "Ref"); id != "" {
		return id
	}
	id, _, _ := strings.Cut(text(v, "Fn::GetAtt"), ".")
	return id
}

// walk calls f with every value of a tree and its path.
func walk(v any, path []string, f func(path []string, v any)) {
	f(path, v)
	switch here := v.(type) {
	case tree:
		for _, key := range sorted(here) {
			walk(here[key], append(slices.Clone(path), key), f)
		}
	case []any:
		for i, item := range here {
			walk(item, append(slices.Clone(path), strconv.Itoa(i)), f)
		}
	}
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// check reports what is wrong with the templates.
type check struct{ *testing.T }

// unless reports an error unless ok.
func (c check) unless(ok bool, format string, args ...any) {
	c.Helper()
	if !ok {
		c.Errorf(format, args...)
	}
}

// equal reports an error if a value is not the one wanted.
func (c check) equal(what string, got, want any) {
	c.Helper()
	c.unless(fmt.Sprint(got) == fmt.Sprint(want), "%s is %v, want %v", what, got, want)
}

func (c check) between(what string, got any, from, to int) {
	c.Helper()
	n, ok := got.(int)
	c.unless(ok && n >= from && n <= to, "%s is %v, want %d to %d", what, got, from, to)
}

// TestLint runs cfn-lint, which knows what every resource of AWS takes. The other tests are about what it
// does not know: rights, variables, alarms, protection of data, and what the binary needs.
func TestLint(t *testing.T) {
	linter, err := exec.LookPath("cfn-lint")
	if err != nil {
		t.Skip("cfn-lint is not on the PATH: pip install cfn-lint")
	}
	if said, err := exec.Command(linter, "-r", "us-east-1", "eu-west-1", "ap-southeast-2", "--", "global.yaml", "region.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
