package source

import (
	"fmt"
	"iter"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"
)

// Slack is a Slack export: channels.json (and groups.json, mpims.json, dms.json), users.json or, of an
// organization, org_users.json, and for each channel a folder with one file a day. An export may be in a
// folder, and several may be beside each other. A folder that no list names is a private room.
type Slack struct {
	Files []File
	// IDs names users by Slack's user ids ("U024BE7LH"), which never change, instead of user names.
	IDs bool
}

// slackLists are the files that list the channels, slackUsers those that list the users.
var (
	slackLists = []string{"channels.json", "groups.json", "mpims.json", "dms.json"}
	slackUsers = []string{"users.json", "org_users.json"}
	// slackOther are files of an export that hold nothing that was said.
	slackOther = []string{"integration_logs.json", "canvases.json", "content_flags.json", "lists.json", "huddle_transcripts.json", "file_conversations.json"}
	// slackDay is the path of a file with the messages of a day.
	slackDay = regexp.MustCompile(`^(?:(.*)/)?[^/]+/\d{4}-\d{2}-\d{2}[^/]*\.json$`)
	slackID  = regexp.MustCompile(`^[CDGW][A-Z0-9]{6,}`)
)

// isSlack reports whether there is a Slack export among files.
func isSlack(files []File) bool { return len(slackRoots(files)) > 0 }

// slackRoots returns the folders that hold exports, "" or "name/", the deepest first: those with a list
// of channels, or without any those with folders of days.
func slackRoots(files []File) []string {
	listed, days := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		dir, base := path.Split(f.Name)
		if slices.Contains(slackLists, base) {
			listed[dir] = true
		}
		if parts := slackDay.FindStringSubmatch(f.Name); parts != nil {
			dir := parts[1]
			if dir != "" {
				dir += "/"
			}
			days[dir] = true
		}
	}
	if len(listed) == 0 {
		listed = days
	}
	var roots []string
	for dir := range listed {
		roots = append(roots, dir)
	}
	slices.SortFunc(roots, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return roots
}

// slackExport is one export: the files below one root.
type slackExport struct {
	lists   []File            // channels.json and such
	folders map[string][]File // files with messages, by the name of their folder
	dumps   []File            // other JSON files at the root
	other   map[string]int    // files that hold no messages, by where they are
}

// sortSlack assigns every file to the export of the deepest root above it.
func sortSlack(files []File) (exports []*slackExport, users []File, outside []File) {
	roots := slackRoots(files)
	for range roots {
		exports = append(exports, &slackExport{folders: map[string][]File{}, other: map[string]int{}})
	}
	for _, f := range files {
		i := slices.IndexFunc(roots, func(root string) bool { return strings.HasPrefix(f.Name, root) })
		base := path.Base(f.Name)
		isJSON := strings.EqualFold(path.Ext(base), ".json")
		if f.err != nil && !isJSON { // it might be a folder
			outside = append(outside, f)
			continue
		}
		if slices.Contains(slackUsers, base) && (i < 0 || !strings.Contains(f.Name[len(roots[i]):], "/")) {
			users = append(users, f)
			continue
		}
		if i < 0 {
			outside = append(outside, f)
			continue
		}
		x := exports[i]
		folder, below, inFolder := strings.Cut(f.Name[len(roots[i]):], "/")
		switch {
		case !inFolder && slices.Contains(slackLists, base):
			x.lists = append(x.lists, f)
		case !inFolder && isJSON && !slices.Contains(slackOther, base):
			x.dumps = append(x.dumps, f)
		case inFolder && isJSON && !strings.Contains(below, "/"):
			x.folders[folder] = append(x.folders[folder], f)
		case inFolder:
			x.other[roots[i]+folder]++
		default:
			x.other[f.Name]++
		}
	}
	for _, x := range exports {
		slices.SortStableFunc(x.lists, func(a, b File) int {
			return slices.Index(slackLists, path.Base(a.Name)) - slices.Index(slackLists, path.Base(b.Name))
		})
	}
	return exports, users, outside
}

// slackChannel is what a list says about a channel.
type slackChannel struct {
	id, name string
	private  bool
	direct   bool
	record   Record
}

// slackReader reads one source.
type slackReader struct {
	Slack
	names    map[string]string // of users, by id
	channels map[string]string // names by id
	yield    func(Record, error) bool
	stopped  bool // the consumer wants no more records
}

// Records implements [Source].
func (s Slack) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		x := &slackReader{Slack: s, names: map[string]string{}, channels: map[string]string{}, yield: yield}
		exports, users, outside := sortSlack(s.Files)
		x.readUsers(users)
		channels := make([][]*slackChannel, len(exports))
		for i, e := range exports {
			channels[i] = x.readChannels(e)
		}
		for i, e := range exports {
			x.readExport(e, channels[i])
		}
		for _, f := range outside {
			text := "the file is not part of the export"
			if f.err != nil {
				text = "the file cannot be opened: " + f.err.Error()
			}
			x.problem(f.Name, 0, text)
		}
	}
}

// emit hands out a record, unless the consumer has stopped.
func (x *slackReader) emit(place Place, r Record) {
	r.Place = place
	x.stopped = x.stopped || !x.yield(r, nil)
}

func (x *slackReader) problem(file string, n int, text string) {
	x.emit(Place{file, n}, Record{Problem: text})
}

func (x *slackReader) note(file, text string) {
	x.emit(Place{file, 0}, Record{Kind: KindNote, Note: text})
}

func (x *slackReader) readUsers(files []File) {
	if len(files) == 0 {
		x.note("users.json", "the file is missing: users are named by their ids")
	}
	for _, f := range files {
		x.readArray(f, func(n int, o *object) {
			id, name := o.text("id"), norm.NFC.String(o.text("name"))
			if id == "" {
				x.problem(f.Name, n, "the user has no id")
				return
			}
			profile := o.object("profile")
			rec := Record{Kind: KindUser, Author: id, At: o.time("updated"), Text: strings.TrimSpace(oneLine(firstText(
				profile.text("real_name"), o.text("real_name"), profile.text("display_name")), 100))}
			rec.Gone, _ = o.flag("deleted")
			if x.names[id] = firstText(name, id); !x.IDs {
				rec.Login = name
			}
			rec.Note = o.notes()
			x.emit(Place{f.Name, n}, rec)
		})
	}
}

// firstText returns the first of some texts that shows something.
func firstText(texts ...string) string {
	for _, text := range texts {
		if strings.TrimSpace(text) != "" {
			return text
		}
	}
	return ""
}

// name returns the name by which texts mention a user.
func (x *slackReader) name(id string) string { return firstText(x.names[id], id) }

// readChannels reads the lists of channels.
func (x *slackReader) readChannels(e *slackExport) (channels []*slackChannel) {
	for _, f := range e.lists {
		x.readArray(f, func(n int, o *object) {
			c := &slackChannel{id: o.text("id"), name: norm.NFC.String(o.text("name"))}
			if c.id == "" {
				x.problem(f.Name, n, "the channel has no id")
				return
			}
			c.record = Record{Kind: KindRoom, Room: c.id, Place: Place{f.Name, n}, About: x.about(c, path.Base(f.Name), o)}
			if c.record.Note = o.notes(); c.name != "" {
				x.channels[c.id] = c.name
			}
			channels = append(channels, c)
		})
	}
	return channels
}

// about returns what a list says about a channel.
func (x *slackReader) about(c *slackChannel, list string, o *object) *Room {
	// A flag that is not understood must not open a room.
	is := func(name string) bool {
		value, says := o.flag(name)
		return value || !says && o.raw(name) != nil
	}
	im := is("is_im")
	c.direct = list == "dms.json" || im
	c.private = list != "channels.json" || is("is_private") || is("is_group") || is("is_mpim") || im
	room := &Room{Name: firstText(c.name, c.id), Private: c.private, Created: o.time("created"), Topic: o.object("topic").text("value")}
	if purpose := o.object("purpose").text("value"); room.Topic == "" {
		room.Topic = purpose
	} else if purpose != "" && purpose != room.Topic {
		o.odd = append(o.odd, "purpose, because a room has one topic")
	}
	if room.Created.Unix() <= 0 {
		room.Created = time.Time{}
	}
	if creator := o.text("creator"); len(x.names) == 0 || x.names[creator] != "" {
		room.Owner = creator
	}
	if archived, says := o.flag("is_archived"); says {
		room.Archived = &archived
	}
	var all bool
	if room.Members, all = o.texts("members"); !all {
		room.partial = true
	}
	if c.direct {
		room.Direct = []string{}
		for _, user := range append(room.Members, o.text("user")) {
			if user != "" && !slices.Contains(room.Direct, user) {
				room.Direct = append(room.Direct, user)
			}
		}
	}
	for _, pin := range o.objects("pins") {
		if ref, ok := slackRef(pin.text("id")); ok {
			room.Pins = append(room.Pins, Pin{Message: ref, By: firstText(pin.text("user"), room.Owner), At: pin.time("created")})
		} else {
			o.isOdd("pins")
		}
	}
	return room
}

// folderName is how names of folders are compared: macOS writes accents as characters of their own.
func folderName(name string) string { return norm.NFC.String(name) }

// assign finds the folder of each channel, by its name or its id. A folder that two channels claim is that
// of a private one, and then all of them are private.
func (x *slackReader) assign(e *slackExport, channels []*slackChannel) map[*slackChannel]string {
	folders := map[string]string{}
	for name := range e.folders {
		folders[folderName(name)] = name
		if lower := strings.ToLower(folderName(name)); folders[lower] == "" {
			folders[lower] = name
		}
	}
	claims := map[string][]*slackChannel{}
	for _, c := range channels {
		names := []string{c.id, c.name}
		if !c.direct {
			names = []string{c.name, c.id}
		}
		for _, name := range append(names, strings.ToLower(names[0])) {
			if folder := folders[folderName(name)]; folder != "" && name != "" {
				claims[folder] = append(claims[folder], c)
				break
			}
		}
	}
	folderOf := map[*slackChannel]string{}
	for folder, claimants := range claims {
		at := max(slices.IndexFunc(claimants, func(c *slackChannel) bool { return c.private }), 0)
		folderOf[claimants[at]] = folder
		for _, c := range claimants {
			c.record.About.Private = c.record.About.Private || claimants[at].private
			if c.id != claimants[at].id {
				c.record.Note = strings.TrimPrefix(c.record.Note+"; its folder is taken as that of another channel of its name, "+claimants[at].id, "; ")
			}
		}
	}
	return folderOf
}

// readExport reads the channels of an export: of each its description, then its messages day by day.
func (x *slackReader) readExport(e *slackExport, channels []*slackChannel) {
	folderOf, taken := x.assign(e, channels), map[string]bool{}
	for _, c := range channels {
		c.record.About.Topic = x.plainText(c.record.About.Topic) // all channels are known by now
		x.emit(c.record.Place, c.record)
		if folder := folderOf[c]; folder != "" {
			taken[folder] = true
			x.readDays(c.id, e.folders[folder])
		}
	}
	for _, folder := range sortedKeys(e.folders) {
		if !taken[folder] {
			x.readUnlisted(folderName(folder), e.folders[folder], "the folder is in no list of channels: it becomes a private room")
		}
	}
	for _, f := range e.dumps {
		x.readUnlisted(strings.TrimSuffix(path.Base(f.Name), path.Ext(f.Name)), []File{f}, "")
	}
	for _, place := range sortedKeys(e.other) {
		x.note(place, fmt.Sprintf("%d files that hold no messages are not imported", e.other[place]))
	}
}

// readUnlisted reads messages of a channel that is in no list. A name that is the id of a channel stands
// for it, so that an export with a list continues the room.
func (x *slackReader) readUnlisted(name string, days []File, note string) {
	key := "folder " + name
	if id := slackID.FindString(name); id != "" {
		key = id
	}
	described := false
	for _, f := range days {
		x.readArray(f, func(n int, o *object) {
			if !described && note == "" && o.raw("ts") == nil {
				x.problem(f.Name, n, "not a message")
				return
			}
			if !described {
				described = true
				x.emit(Place{path.Dir(f.Name), 0}, Record{Kind: KindRoom, Room: key, Note: note, About: &Room{Name: name, Private: true, inferred: true}})
			}
			x.message(key, Place{f.Name, n}, o)
		})
	}
}

func (x *slackReader) readDays(room string, days []File) {
	for _, f := range days {
		x.readArray(f, func(n int, o *object) { x.message(room, Place{f.Name, n}, o) })
	}
}

// message emits a message, its author's name if the author is in no list, and the replies that slackdump writes
// into it.
func (x *slackReader) message(room string, place Place, o *object) {
	if id := o.text("user"); id != "" && x.names[id] == "" {
		profile := o.object("user_profile")
		if name := firstText(profile.text("real_name"), profile.text("display_name"), profile.text("name")); name != "" {
			x.names[id] = firstText(profile.text("name"), name)
			x.emit(place, Record{Kind: KindUser, Author: id, Text: strings.TrimSpace(name)})
		}
	}
	rec := x.record(o)
	rec.Room = room
	x.emit(place, rec)
	for _, reply := range o.objects("slackdump_thread_replies") {
		x.message(room, place, reply)
	}
}
