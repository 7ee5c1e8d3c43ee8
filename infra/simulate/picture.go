package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// pictureText is the page that [picture] fills in.
//
//go:embed picture.html
var pictureText string

var pictureTemplate = template.Must(template.New("picture").Parse(pictureText))

// The measures of a picture, in pixels.
const (
	timeWidth   = 96
	columnWidth = 250
	rowHeight   = 20
	headHeight  = 4
	stepHeight  = 30
	textChars   = 38 // that fit into a column
)

// drawing is what the page shows.
type drawing struct {
	Title, World string
	Failure      *Failure
	When         string // the failure
	Width        int
	Height       int
	Left         int // of the first column
	Columns      []column
	Bands        []band
	Marks        []mark
	Paths        []path
	Cuts         []cutMark

	tops map[int]int // where the steps begin, by N
}

// column is a region, a client, or another actor.
type column struct {
	Name             string
	X, Middle, Width int
	Odd              bool
}

// band is the heading of a step.
type band struct {
	Y, TextY int
	Text     string
	Failed   bool
}

// mark is a line of the trace.
type mark struct {
	X, Y, TextX, TextY int
	Time, Text, Full   string
	Kind, Event        string
}

// path leads from where an event was accepted to where else it was seen.
type path struct{ D, Event string }

// cutMark is a time during which a link between regions is cut.
type cutMark struct {
	X, From, Height int
	TextX, TextY    int
	Name, Text      string
}

// picture draws a run as one HTML page without any other file: time runs downwards, each region and each client
// has a column, and lines connect what happens to one event. It shows where the check failed.
func picture(s Schedule, r Result) []byte {
	d := drawing{World: describeWorld(s), Failure: r.Failure, Title: "no check failed", tops: map[int]int{}}
	if r.Failure != nil {
		d.Title, d.When = "the check "+r.Failure.Check+" failed", describeStep(s, r.Failure.Step)
	}
	r.Trace = collapse(r.Trace)
	d.Left = timeWidth + len(cutLinks(s))*cutWidth
	at := d.addColumns(r.Trace)
	d.addLines(s, r, at)
	d.addCuts(s)
	d.Width = d.Left + columnWidth*max(4, len(d.Columns)) + 20
	var page bytes.Buffer
	if err := pictureTemplate.Execute(&page, d); err != nil {
		panic(err) // the template is fixed, and the page in memory
	}
	return page.Bytes()
}

// actorOf returns the column of the actor of a line, and which part of that the actor is: "eu/2" is the
// process 2 of the region "eu", "bus eu" its bus.
func actorOf(actor string) (column, part string) {
	if region, is := strings.CutPrefix(actor, "bus "); is {
		return region, "bus"
	}
	if column, part, is := strings.Cut(actor, "/"); is && !strings.Contains(column, " ") {
		return column, "/" + part
	}
	return actor, ""
}

// noColumn is the actor of lines that need no column: headings of steps, and checks, which go over all columns.
const noColumn = "world"

// groupOf orders the columns: operators, users, regions, clients.
func groupOf(column string) string {
	switch {
	case column == "operator":
		return "a"
	case strings.HasPrefix(column, "user "):
		return "b"
	case strings.HasPrefix(column, "client "):
		return "d"
	}
	return "c"
}

// addColumns makes the columns of all actors, and returns which column each has.
func (d *drawing) addColumns(lines []Line) map[string]int {
	var names []string
	for _, l := range lines {
		name, _ := actorOf(l.Actor)
		if name == noColumn {
			continue
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return strings.Compare(groupOf(a)+" "+a, groupOf(b)+" "+b)
	})
	at := map[string]int{}
	for i, name := range names {
		x := d.Left + i*columnWidth
		at[name] = i
		d.Columns = append(d.Columns, column{Name: name, X: x, Middle: x + 10, Width: columnWidth, Odd: i%2 == 1})
	}
	return at
}

// addLines makes a row of each line, below the headings of the steps, and connects the rows of each event.
func (d *drawing) addLines(s Schedule, r Result, at map[string]int) {
	type spot struct{ x, y, column int }
	first := map[string]spot{}
	y, last := headHeight, noStep
	for _, l := range r.Trace {
		if l.Step != last && (stepOf(s, l.Step) != nil || heading(s, l.Step) != heading(s, last)) {
			y += stepHeight
			failed := r.Failure != nil && r.Failure.Step == l.Step
			d.tops[l.Step] = y
			d.Bands = append(d.Bands, band{Y: y - stepHeight + 6, TextY: y - 8, Text: heading(s, l.Step), Failed: failed})
		}
		last = l.Step
		name, part := actorOf(l.Actor)
		if l.Kind == lineStep && stepOf(s, l.Step) != nil || isBeat(l) {
			continue
		}
		i, x := at[name], d.Left+10
		if name != noColumn {
			x = d.Columns[i].Middle
		}
		text := firstLine(abbreviate(l.What))
		if part != "" {
			text = part + " " + text
		}
		full := strings.TrimSpace(fmt.Sprintf("%s %s %s %s\n%s", clock(l.At), l.Actor, l.Kind, l.Event, l.What))
		chars := textChars
		if name == noColumn {
			chars = 1000
		}
		event, _, _ := strings.Cut(abbreviate(l.Event), ".") // clients do not know the digest behind it
		d.Marks = append(d.Marks, mark{
			X: x, Y: y + rowHeight/2, TextX: x + 10, TextY: y + rowHeight/2 + 4,
			Time: clock(l.At), Text: cutText(text, chars), Full: full, Kind: l.Kind, Event: event,
		})
		if here := (spot{x, y + rowHeight/2, i}); event != "" {
			from, seen := first[event]
			if !seen {
				first[event] = here
			} else if from.column != here.column {
				d.Paths = append(d.Paths, path{Event: event, D: curve(from.x, from.y, here.x, here.y)})
			}
		}
		y += rowHeight
	}
	d.Height = y + 40
}

// isBeat reports whether a line is about a heartbeat: there are too many of them for a picture.
func isBeat(l Line) bool {
	return (l.Kind == lineAccept || l.Kind == lineReplicate || l.Kind == linePublish) && strings.HasPrefix(l.What, "region.beat")
}

// curve is the path from one point to another, which lies below it.
func curve(x1, y1, x2, y2 int) string {
	middle := (y1 + y2) / 2
	return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, y1, x1, middle, x2, middle, x2, y2)
}

// cutText shortens a text to so many characters.
func cutText(text string, chars int) string {
	if runes := []rune(text); len(runes) > chars {
		return string(runes[:chars-1]) + "…"
	}
	return text
}

// cutWidth is the width of the lane of a link.
const cutWidth = 16

// cutLinks are the links between regions that are ever cut in a schedule: each has a lane of its own beside the
// time.
func cutLinks(s Schedule) (links [][2]int) {
	for _, step := range s.Steps {
		for _, link := range cutsOf(s, step) {
			if !slices.Contains(links, link) {
				links = append(links, link)
			}
		}
	}
	return links
}

// cutsOf returns the links that a step cuts, as the regions from and to.
func cutsOf(s Schedule, step Step) (links [][2]int) { return linksOf(s, step, cutLink, cutRegion) }

// healsOf returns the links that a step heals.
func healsOf(s Schedule, step Step) (links [][2]int) { return linksOf(s, step, healLink, healRegion) }

// linksOf returns the link of a step of the kind one, and all links of a region of one of the kind all.
func linksOf(s Schedule, step Step, one, all string) (links [][2]int) {
	switch step.Kind {
	case one:
		links = append(links, [2]int{step.A % s.Regions, step.B % s.Regions})
	case all:
		for other := range s.Regions {
			links = append(links, [2]int{step.A % s.Regions, other}, [2]int{other, step.A % s.Regions})
		}
	}
	return slices.DeleteFunc(links, func(link [2]int) bool { return link[0] == link[1] })
}

// addCuts draws for how long links were cut, until everything is healed at the end.
func (d *drawing) addCuts(s Schedule) {
	since := map[[2]int]int{}
	links := cutLinks(s)
	end := d.Height - 40
	if y, settles := d.tops[-2]; settles {
		end = y - stepHeight
	}
	draw := func(link [2]int, to int) {
		from, is := since[link]
		if !is {
			return
		}
		delete(since, link)
		x := timeWidth + slices.Index(links, link)*cutWidth
		d.Cuts = append(d.Cuts, cutMark{
			X: x, From: from, Height: max(4, to-from), TextX: x + 2, TextY: from + 6,
			Text: fmt.Sprintf("nothing passes from %s to %s", regionNames[link[0]], regionNames[link[1]]),
			Name: regionNames[link[0]] + "→" + regionNames[link[1]],
		})
	}
	for _, step := range s.Steps {
		y, taken := d.tops[step.N]
		if !taken {
			continue
		}
		for _, link := range cutsOf(s, step) {
			if _, is := since[link]; !is {
				since[link] = y
			}
		}
		for _, link := range healsOf(s, step) {
			draw(link, y-stepHeight)
		}
	}
	for _, link := range links {
		draw(link, end)
	}
}
