package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// templates are the texts of global.yaml and region.yaml.
type templates struct{ global, region string }

func readTemplates(root string) (templates, error) {
	var t templates
	for name, text := range map[string]*string{"global.yaml": &t.global, "region.yaml": &t.region} {
		b, err := os.ReadFile(filepath.Join(root, "infra", "template", name))
		if err != nil {
			return t, fmt.Errorf("read a template: %w", err)
		}
		*text = string(b)
	}
	return t, nil
}

// forGlobal returns the template of the log with a replica in each of the regions. That in open,
// if it is not "", may be deleted: it is about to be.
func (t templates) forGlobal(regions []string, open string) (string, error) {
	return repeat(t.global, "each region", "us-east-1", regions, func(region, block string) string {
		if region == open {
			return strings.ReplaceAll(block, "DeletionProtectionEnabled: true", "DeletionProtectionEnabled: false")
		}
		return block
	})
}

// forRegion returns the template of a region, beside others that its writes are replicated to.
func (t templates) forRegion(others []string) (string, error) {
	return repeat(t.region, "each other region", "eu-west-1", others, nil)
}

// repeat returns text with each block between its lines "# <mark>: begin" and "# <mark>: end" once
// for each of the regions, in order, with the region's name in place of the sample's. If change is
// not nil each of them goes through it.
func repeat(text, mark, sample string, regions []string, change func(region, block string) string) (string, error) {
	begin := "# " + mark + ": begin"
	before, rest, begins := cutLine(text, begin)
	block, after, ends := cutLine(rest, "# "+mark+": end")
	if !begins || !ends || !strings.Contains(block, sample) {
		return "", fmt.Errorf("a template has no block %q about %s", mark, sample)
	}
	var b strings.Builder
	b.WriteString(before)
	for _, region := range slices.Sorted(slices.Values(regions)) {
		one := strings.NewReplacer(sample, region, camel(sample), camel(region)).Replace(block)
		if change != nil {
			one = change(region, one)
		}
		b.WriteString(one)
	}
	if _, _, more := cutLine(after, begin); more {
		var err error
		if after, err = repeat(after, mark, sample, regions, change); err != nil {
			return "", err
		}
	}
	b.WriteString(after)
	return b.String(), nil
}

// cutLine cuts text before and after the line that is, but for spaces around it, the given one.
func cutLine(text, line string) (before, after string, found bool) {
	at := 0
	for l := range strings.Lines(text) {
		if strings.TrimSpace(l) == line {
			return text[:at], text[at+len(l):], true
		}
		at += len(l)
	}
	return text, "", false
}

// camel makes a region's name a part of a logical id, which has letters and digits only: EuWest1.
func camel(region string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(region, "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
