package main

import (
	"fmt"
	"strings"
	"time"
)

// progress is a line on the terminal that is written over and over. On anything else it is silent.
type progress struct {
	*session
	shown int // characters
	next  time.Time
}

func (s *session) progress() *progress { return &progress{session: s} }

// line shows a text in place of the one before, a few times a second at most.
func (p *progress) line(text string) {
	if now := time.Now(); !p.terminal || now.Before(p.next) {
		return
	} else {
		p.next = now.Add(100 * time.Millisecond)
	}
	const width = 100
	if runes := []rune(text); len(runes) > width {
		text = string(runes[:width])
	}
	fmt.Fprintf(p.err, "\r%s%s", text, strings.Repeat(" ", max(0, p.shown-len([]rune(text)))))
	p.shown = len([]rune(text))
}

// end takes the line away.
func (p *progress) end() {
	if p.shown > 0 {
		fmt.Fprintf(p.err, "\r%s\r", strings.Repeat(" ", p.shown))
		p.shown = 0
	}
}

// job shows how far a job is.
func (p *progress) job(region string, j *job) {
	text := fmt.Sprintf("%s: %s", region, j.title())
	if j.Phase != "" {
		text += ", " + j.Phase
	}
	text += "  " + j.amount()
	if j.Total > 0 {
		text += fmt.Sprintf("  %d%%", 100*j.Done/j.Total)
	}
	if j.Rate > 0 {
		text += fmt.Sprintf("  %s/s", thousands(int64(j.Rate)))
	}
	if j.SecondsLeft != nil {
		text += "  " + left(time.Duration(*j.SecondsLeft)*time.Second)
	}
	p.line(text)
}

// pace shows how far work of this program's own is.
func (p *progress) pace(what string, done, total int, since time.Time) {
	text := fmt.Sprintf("%s %s", what, thousands(int64(done)))
	rate := float64(done) / max(time.Since(since).Seconds(), 0.001)
	if total > 0 {
		text += fmt.Sprintf(" of %s  %d%%", thousands(int64(total)), 100*done/total)
	}
	text += fmt.Sprintf("  %s/s", thousands(int64(rate)))
	if total > done && rate > 0 {
		text += "  " + left(time.Duration(float64(total-done)/rate*float64(time.Second)))
	}
	p.line(text)
}

func left(d time.Duration) string { return d.Round(time.Second).String() + " left" }

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
