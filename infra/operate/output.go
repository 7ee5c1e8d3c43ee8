package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// printJSON prints a result as JSON, on a line of its own.
func (s *session) printJSON(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printItem prints something that belongs to a region as JSON.
func (r *region) printItem(name string, v any) error {
	return r.printJSON(map[string]any{"region": r.name, name: v})
}

// printf prints a line for people, unless results are printed as JSON.
func (s *session) printf(format string, args ...any) {
	if !s.JSON {
		fmt.Fprintf(s.out, format+"\n", args...)
	}
}

// progress is a line on the terminal that is overwritten again and again. It is silent if standard
// error is not a terminal.
type progress struct {
	*session
	shown int // characters
	next  time.Time
}

func (s *session) progress() *progress { return &progress{session: s} }

// show replaces the line, at most ten times a second.
func (p *progress) show(text string) {
	now := time.Now()
	if !p.terminal || now.Before(p.next) {
		return
	}
	p.next = now.Add(100 * time.Millisecond)
	const width = 100
	runes := []rune(text)
	runes = runes[:min(width, len(runes))]
	fmt.Fprintf(p.err, "\r%s%s", string(runes), strings.Repeat(" ", max(0, p.shown-len(runes))))
	p.shown = len(runes)
}

// clear removes the line.
func (p *progress) clear() {
	if p.shown > 0 {
		fmt.Fprintf(p.err, "\r%s\r", strings.Repeat(" ", p.shown))
		p.shown = 0
	}
}

// showPace shows how far work of this program is. A total of 0 is unknown.
func (p *progress) showPace(what string, done, total int, since time.Time) {
	rate := float64(done) / max(time.Since(since).Seconds(), 0.001)
	left := time.Duration(0)
	if total > done && rate > 0 {
		left = time.Duration(float64(total-done) / rate * float64(time.Second))
	}
	p.show(what + " " + amountText(int64(done), int64(total)) + paceText(rate, left))
}

// amountText writes "4,200 of 11,291  37%", or just "4,200" if the total is 0, unknown.
func amountText(done, total int64) string {
	if total <= 0 {
		return thousands(done)
	}
	return fmt.Sprintf("%s of %s  %d%%", thousands(done), thousands(total), 100*done/total)
}

// paceText writes "  250/s  30s left". What is 0 is left out.
func paceText(rate float64, left time.Duration) (text string) {
	if rate > 0 {
		text += "  " + thousands(int64(rate)) + "/s"
	}
	if left > 0 {
		text += "  " + left.Round(time.Second).String() + " left"
	}
	return text
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	text := fmt.Sprint(max(n, -n))
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	if n < 0 {
		text = "-" + text
	}
	return text
}
