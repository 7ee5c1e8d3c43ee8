package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"
)

// failedRun is a run with all that a report shows.
func failedRun() (Schedule, Result) {
	s := Schedule{
		Seed: 7, Regions: 3, Shards: 2, Processes: 1, Users: 2, Faults: 20,
		Steps: []Step{{N: 4, Kind: "post", A: 1, Calm: true}, {N: 9, Kind: cutLink, A: 3, B: 1}, {N: 11, Kind: healLink, B: 1}},
	}
	const id = "01KB00000000000000000000AB"
	r := Result{
		Failure: &Failure{Step: 11, Check: "order", Text: "eu and us differ:\n<one> & two"},
		Trace: []Line{
			{At: 0, Step: -1, Actor: "eu/0", Kind: "accept", Event: "E1", What: "region.beat by eu in region/eu"},
			{At: time.Second, Step: 4, Actor: "world", Kind: "step", What: "post"},
			{At: time.Second, Step: 4, Actor: "eu/1", Kind: "accept", Event: "E2", What: "message.posted by ada in room/" + id},
			{At: 61 * time.Minute, Step: 9, Actor: "us", Kind: "replicate", Event: "E2", What: "message.posted from eu"},
			{At: 61 * time.Minute, Step: 9, Actor: "bus us", Kind: "publish", Event: "E2", What: "message.posted"},
			{At: 61 * time.Minute, Step: 9, Actor: "client bob", Kind: "deliver", Event: "E2", What: "message.posted at 3"},
			{At: 61 * time.Minute, Step: 9, Actor: "us/0", Kind: "fault", What: "views save: refused"},
			{At: 61 * time.Minute, Step: 9, Actor: "us/0", Kind: "fault", What: "views save: refused"},
			{At: 62 * time.Minute, Step: 11, Actor: "world", Kind: "check", What: "order: eu and us differ:\n<one> & two"},
		},
	}
	return s, r
}

func TestAccount(t *testing.T) {
	s, r := failedRun()
	var out bytes.Buffer
	writeAccount(&out, s, r)
	writeOutcome(&out, s, r)
	for _, want := range []string{
		"\nbefore the first step\n  0:00:00.000  eu/0  accept  E1  region.beat",
		"\nstep 4: post 1 0 0, calm: ",
		"  0:00:01.000  eu/1  accept  E2  message.posted by ada in room/000000AB\n",
		"  1:01:00.000  client bob  deliver    E2  message.posted at 3\n",
		"seed 7: 3 regions, 2 shards in the change stream and 1 process in each, 2 users, 20 of 1000 calls of ports fail, one call at a time; 3 steps\n",
		"the check order failed in step 11 (link.heal):\n  eu and us differ:\n  <one> & two\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, out.String())
		}
	}
	for step, want := range map[int]string{noStep: "the check x failed:\n", -1: "failed before the first step:", -2: "failed after the last step:"} {
		out.Reset()
		writeOutcome(&out, s, Result{Failure: &Failure{Step: step, Check: "x"}})
		if !strings.Contains(out.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, out.String())
		}
	}
}

// The picture is well-formed, shows all columns and the failure, and leaves heartbeats out.
func TestPicture(t *testing.T) {
	s, r := failedRun()
	page := string(picture(s, r))
	svg := page[strings.Index(page, `<svg id="run"`) : strings.LastIndex(page, "</svg>")+len("</svg>")]
	texts := map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
		if text, is := token.(xml.CharData); is {
			texts[string(text)]++
		}
	}
	for _, want := range []string{
		"/1 message.posted by ada in room/0000…", "bus message.posted", "/0 views save: refused (2 times)", "message.posted at 3",
		"step 11: link.heal 0 1 0: " + kindOf(healLink).about, "order: eu and us differ:", "nothing passes from eu to us", "eu→us",
	} {
		if texts[want] != 1 {
			t.Errorf("it shows %q %d times:\n%s", want, texts[want], svg)
		}
	}
	if strings.Contains(svg, "region.beat") {
		t.Error("it shows a heartbeat")
	}
	if n := strings.Count(svg, `<path d="M`); n != 3 {
		t.Errorf("%d lines lead from the event", n)
	}
	if !strings.Contains(page, "&lt;one&gt; &amp; two</pre>") || strings.Count(page, `class="name"`) != 3 {
		t.Errorf("the failure or the columns are missing:\n%s", page)
	}
	if strings.Contains(page, "src=") || strings.Contains(page, "href=") {
		t.Error("the page needs other files")
	}
}

func TestCoverage(t *testing.T) {
	var out bytes.Buffer
	writeCoverage(&out, map[string]int{"post": 3, "edit": 1}, map[string]int{"views save refused": 2, "views save refused but done": 5, "log read crash after": 1})
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"post 3 75.0 %", "edit 1 25.0 %", "link.cut 0 never", "views save 0 2 5 0 0", "log read 0 0 0 0 1"} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, out.String())
		}
	}
}
