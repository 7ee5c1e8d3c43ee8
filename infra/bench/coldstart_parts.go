package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// printLargest prints what takes most of the Lambda binary: the packages with most code and
// constants.
func printLargest(ctx context.Context, dir string, out io.Writer) error {
	path := filepath.Join(dir, "lambda-symbols")
	if err := lambdaBuild(ctx, path, lambdaArchs[0]); err != nil {
		return err
	}
	text, err := exec.CommandContext(ctx, "go", "tool", "nm", "-size", path).Output()
	if err != nil {
		return fmt.Errorf("list the symbols of infra/lambda: %w", err)
	}
	sizes, sum := map[string]float64{}, 0.0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // address, size, kind, name
		if len(fields) < 4 || !strings.Contains("TtRr", fields[2]) {
			continue
		}
		size, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			continue
		}
		sizes[groupOf(fields[3])] += size
		sum += size
	}
	fmt.Fprintf(out, "   of its code and constants are")
	for i, p := range largest(sizes, 6) {
		fmt.Fprintf(out, "%s %s %.0f %%", strings.Repeat(",", min(i, 1)), p, 100*sizes[p]/sum)
	}
	fmt.Fprintln(out)
	return nil
}

// groupOf is the module or the part of the standard library that a symbol belongs to.
func groupOf(symbol string) string {
	symbol, _, _ = strings.Cut(symbol, "[") // type arguments
	slash := strings.LastIndexByte(symbol, '/')
	pkg, _, _ := strings.Cut(symbol[slash+1:], ".")
	pkg = symbol[:slash+1] + pkg
	parts := strings.Split(pkg, "/")
	if strings.Contains(parts[0], ":") { // "go:" or "type:", written by the linker
		return "runtime"
	}
	if strings.Contains(parts[0], ".") {
		return strings.Join(parts[1:min(3, len(parts))], "/")
	}
	return parts[0]
}

func largest(sizes map[string]float64, n int) []string {
	names := make([]string, 0, len(sizes))
	for name := range sizes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(sizes[b] - sizes[a]) })
	return names[:min(n, len(names))]
}

// printInits prints how long a process takes until main is called, and which packages take most
// of it. The rest of the time until it asks for work is main's: the clients, the table of
// operations, the issuer's keys or a look at the bus.
func (s *stage) printInits(path string, out io.Writer) error {
	var trace bytes.Buffer
	a, err := s.start(path, "command", &trace, "GODEBUG=inittrace=1")
	if err != nil {
		return err
	}
	clocks, last := map[string]float64{}, 0.0 // microseconds
	for lines := bufio.NewScanner(&trace); lines.Scan(); {
		// init time @3.4 ms, 0.65 ms clock, 1024 bytes, 4 allocs
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[0] != "init" {
			continue
		}
		at, err1 := strconv.ParseFloat(strings.TrimPrefix(fields[2], "@"), 64)
		clock, err2 := strconv.ParseFloat(fields[4], 64)
		if err1 == nil && err2 == nil {
			clocks[fields[1]] += 1000 * clock
			last = at + clock
		}
	}
	fmt.Fprintf(out, "   command, traced: main is called after %.1f of %.1f ms; most of that take", last, milliseconds(a.asked.Sub(a.started)))
	for i, name := range largest(clocks, 4) {
		fmt.Fprintf(out, "%s %s %.2f ms", strings.Repeat(",", min(i, 1)), name, clocks[name]/1000)
	}
	fmt.Fprintln(out)
	return nil
}
