package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// writeOutcome prints what became of a run, in a few lines.
func writeOutcome(out io.Writer, s Schedule, r Result) {
	fmt.Fprintf(out, "%s\n", describeWorld(s))
	if r.Failure == nil {
		fmt.Fprintf(out, "no check failed; the trace has the hash %016x\n", r.Hash)
		return
	}
	fmt.Fprintf(out, "the check %s failed%s:\n%s\n", r.Failure.Check, describeStep(s, r.Failure.Step), indent(r.Failure.Text, "  "))
}

// describeWorld says what a schedule runs.
func describeWorld(s Schedule) string {
	at := "one call at a time"
	if s.Interleaved {
		at = "calls interleaved"
	}
	return fmt.Sprintf("seed %d: %s, %s in the change stream and %s in each, %s, %d of 1000 calls of ports fail, %s; %s",
		s.Seed, count(s.Regions, "region"), count(s.Shards, "shard"), count(s.Processes, "process"), count(s.Users, "user"), s.Faults, at, count(len(s.Steps), "step"))
}

func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// collapse makes one line of those that say the same several times in a row.
func collapse(lines []Line) []Line {
	var out []Line
	times := 1
	for i, l := range lines {
		if i+1 < len(lines) && lines[i+1].Step == l.Step && lines[i+1].Actor == l.Actor && lines[i+1].Kind == l.Kind && lines[i+1].Event == l.Event && lines[i+1].What == l.What {
			times++
			continue
		}
		if times > 1 {
			l.What += fmt.Sprintf(" (%d times)", times)
		}
		out, times = append(out, l), 1
	}
	return out
}

// noStep is the step of a failure that is of no single step.
const noStep = -1 << 30

// describeStep says when a check failed, with a space before, as far as it is known.
func describeStep(s Schedule, n int) string {
	for _, step := range s.Steps {
		if step.N == n {
			return fmt.Sprintf(" in step %d (%s)", n, step.Kind)
		}
	}
	switch n {
	case noStep:
		return ""
	case -1:
		return " before the first step"
	}
	return " after the last step"
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by)
}

// writeAccount prints what happened in a run, in order of time: for each step what it is, and what processes,
// regions and clients did.
func writeAccount(out io.Writer, s Schedule, r Result) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	last := noStep
	for _, l := range collapse(r.Trace) {
		if l.Step != last {
			_ = table.Flush() // an error of out is seen by the next write
			fmt.Fprintf(out, "\n%s\n", heading(s, l.Step))
			last = l.Step
		}
		if l.Kind != lineStep || stepOf(s, l.Step) == nil { // else the heading says so
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\n", clock(l.At), l.Actor, l.Kind, abbreviate(l.Event), firstLine(abbreviate(l.What)))
		}
	}
	_ = table.Flush()
	fmt.Fprintln(out)
}

// ids are the ids of events in a text.
var ids = regexp.MustCompile(`[0-7][0-9A-HJKMNP-TV-Z]{25}`)

// abbreviate shortens the ids in a text to what the lines of a trace call their events.
func abbreviate(text string) string {
	return ids.ReplaceAllStringFunc(text, func(id string) string { return id[6:10] + id[22:] })
}

// The kinds of lines that reports treat in a way of their own.
const (
	lineStep      = "step"
	lineAccept    = "accept"
	lineReplicate = "replicate"
	linePublish   = "publish"
)

func stepOf(s Schedule, n int) *Step {
	for i := range s.Steps {
		if s.Steps[i].N == n {
			return &s.Steps[i]
		}
	}
	return nil
}

// heading is the title of a step.
func heading(s Schedule, n int) string {
	step := stepOf(s, n)
	switch {
	case step == nil && n == -1:
		return "before the first step"
	case step == nil:
		return "after the last step: all faults are over, and everything arrives"
	}
	calm, about := "", ""
	if step.Calm {
		calm = ", calm"
	}
	if k := kindOf(step.Kind); k != nil {
		about = ": " + k.about
	}
	return fmt.Sprintf("step %d: %s %d %d %d%s%s", n, step.Kind, step.A, step.B, step.C, calm, about)
}

// clock shows the time since the run began.
func clock(at time.Duration) string {
	return fmt.Sprintf("%d:%02d:%06.3f", int(at.Hours()), int(at.Minutes())%60, (at % time.Minute).Seconds())
}

// writeCoverage prints how often each kind of step was taken, and each fault of each port occurred. A kind that
// was never taken is listed too: what is not taken is not tested.
func writeCoverage(out io.Writer, steps, faults map[string]int) {
	all, total := map[string]int{}, 0
	for _, k := range kinds {
		all[k.name] = 0
	}
	maps.Copy(all, steps)
	for _, n := range all {
		total += n
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "step\ttimes\tshare\t\n")
	for _, name := range slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b], all[a]), cmp.Compare(a, b))
	}) {
		share := "never"
		if n := all[name]; n > 0 {
			share = fmt.Sprintf("%.1f %%", 100*float64(n)/float64(total))
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t\n", name, all[name], share)
	}
	_ = table.Flush() // an error of out is seen by the next write

	outcomes := []string{"delay", "refused", "refused but done", "crash before", "crash after"}
	calls := map[string]map[string]int{}
	for name, n := range faults {
		call, outcome := name, ""
		for _, o := range outcomes {
			if before, is := strings.CutSuffix(name, " "+o); is {
				call, outcome = before, o
			}
		}
		if calls[call] == nil {
			calls[call] = map[string]int{}
		}
		calls[call][outcome] += n
	}
	table = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\nfault\t%s\t\n", strings.Join(outcomes, "\t"))
	for _, call := range slices.Sorted(maps.Keys(calls)) {
		fmt.Fprintf(table, "%s\t", call)
		for _, o := range outcomes {
			fmt.Fprintf(table, "%d\t", calls[call][o])
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush()
}
