package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/events"
)

// BenchmarkIdle measures what three regions cost that hold a conversation and have nothing to do. An
// op is a second: run it with -benchtime 20x.
func BenchmarkIdle(b *testing.B) {
	const messages = 2000
	c := &child{t: b, args: []string{"-addr", "127.0.0.1:0", "-data", b.TempDir(), "-rate", "0"}}
	c.start()
	defer c.kill()
	stat := func() (cpu time.Duration, memory int64) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		if err != nil {
			b.Skip("CPU time and memory of a process can only be read on Linux")
		}
		// proc(5): after the name in parentheses, utime and stime are fields 12 and 13, in ticks of 10 ms,
		// and the resident pages are field 22.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		number := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
		return time.Duration(number(11)+number(12)) * 10 * time.Millisecond, number(21) * int64(os.Getpagesize())
	}
	urls, _ := c.at()
	ada := newClient(b, urls[0], urls[1], "ada")
	room := ada.create("Hello")
	for i := range messages {
		ada.post(room, fmt.Sprint("message ", i))
	}
	for _, url := range urls[1:] {
		if there := newClient(b, urls[0], url, "ada"); !eventually(20*time.Second, func() bool { return len(there.history(room)) == messages }) {
			b.Fatal("the regions do not agree")
		}
	}
	before, _ := stat()
	start := time.Now()
	for b.Loop() {
		if err := events.Sleep(b.Context(), time.Second); err != nil {
			b.Fatal(err)
		}
	}
	after, memory := stat()
	b.ReportMetric(100*(after-before).Seconds()/time.Since(start).Seconds(), "%core")
	b.ReportMetric(float64(memory>>20), "MB")
	b.ReportMetric(0, "ns/op")
}
