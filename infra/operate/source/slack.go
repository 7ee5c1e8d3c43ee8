package source

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Slack is a Slack export: channels.json (and groups.json, mpims.json, dms.json), users.json, and
// for each channel a folder with one file a day.
type Slack struct {
	Files fs.FS
	// IDs names authors by Slack's user ids ("U024BE7LH"), which never change, instead of user names.
	IDs bool
}

// slackLists are the files that list the channels.
var slackLists = []string{"channels.json", "groups.json", "mpims.json", "dms.json"}

// findSlack returns the folder that holds the export: the root, or a folder in it. It returns nil if
// there is none.
func findSlack(files fs.FS) fs.FS {
	dirs := []string{"."}
	if entries, err := fs.ReadDir(files, "."); err == nil {
		for _, e := range entries {
			if e.IsDir() && !strings.HasPrefix(e.Name(), "__") { // __MACOSX
				dirs = append(dirs, e.Name())
			}
		}
	}
	for _, dir := range dirs {
		for _, list := range slackLists {
			if _, err := fs.Stat(files, path.Join(dir, list)); err != nil {
				continue
			}
			if sub, err := fs.Sub(files, dir); err == nil {
				return sub
			}
		}
	}
	return nil
}

type slackChannel struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Created int64    `json:"created"`
	Creator string   `json:"creator"`
	Members []string `json:"members"`
	User    string   `json:"user"` // the other user of a direct conversation, in place of Members
	Topic   struct {
		Value string `json:"value"`
	} `json:"topic"`
	IsPrivate bool `json:"is_private"`
	IsGroup   bool `json:"is_group"`
	IsMPIM    bool `json:"is_mpim"`
	IsIM      bool `json:"is_im"`

	place Place
}

func (c slackChannel) isDirect() bool { return c.place.File == "dms.json" || c.IsIM }

func (c slackChannel) isPrivate() bool {
	return c.place.File != "channels.json" || c.IsPrivate || c.IsGroup || c.IsMPIM || c.IsIM
}

// folder is where the messages are.
func (c slackChannel) folder() string {
	if c.isDirect() {
		return c.ID
	}
	return c.Name
}

type slackUser struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Updated int64  `json:"updated"`
	Profile struct {
		RealName string `json:"real_name"`
	} `json:"profile"`
}

// slackReader reads one export.
type slackReader struct {
	Slack
	users    map[string]slackUser
	channels map[string]string // names by id
	private  map[string]bool   // folders of private channels, whatever other lists say of them
	yield    func(Record, error) bool
	stopped  bool // the consumer wants no more records
}

// Records implements [Source].
func (s Slack) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		x := &slackReader{Slack: s, users: map[string]slackUser{}, channels: map[string]string{}, private: map[string]bool{}, yield: yield}
		x.readUsers()
		for _, c := range x.readChannels() {
			x.readChannel(c)
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

func (x *slackReader) readUsers() {
	const file = "users.json"
	if _, err := fs.Stat(x.Files, file); errors.Is(err, fs.ErrNotExist) {
		x.problem(file, 0, "the file is missing: authors are named by their ids")
		return
	}
	var all []slackUser
	readArray(x, file, func(_ int, u slackUser) {
		if u.ID != "" {
			x.users[u.ID] = u
			all = append(all, u)
		}
	})
	for i, u := range all {
		name := oneLine(u.Profile.RealName, 100)
		if u.Updated > 0 && strings.TrimSpace(name) != "" {
			x.emit(Place{file, i + 1}, Record{Kind: KindProfile, At: time.Unix(u.Updated, 0), Author: x.user(u.ID), Text: name})
		}
	}
}

// user returns the name under which a user's messages are imported.
func (x *slackReader) user(id string) string {
	if u, known := x.users[id]; known && !x.IDs && u.Name != "" {
		return u.Name
	}
	return id
}

func (x *slackReader) readChannels() (channels []slackChannel) {
	for _, file := range slackLists {
		if _, err := fs.Stat(x.Files, file); err != nil {
			continue
		}
		readArray(x, file, func(n int, c slackChannel) {
			if c.ID == "" {
				x.problem(file, n, "the channel has no id")
				return
			}
			c.place = Place{file, n}
			if c.Name != "" {
				x.channels[c.ID] = c.Name
			}
			if c.isPrivate() {
				x.private[c.folder()] = true
			}
			channels = append(channels, c)
		})
	}
	return channels
}

// readChannel reads one channel: its description, then its messages day by day.
func (x *slackReader) readChannel(c slackChannel) {
	folder := c.folder()
	room := Room{Name: c.Name, Topic: x.plainText(c.Topic.Value), Private: c.isPrivate() || x.private[folder]}
	if c.Created > 0 {
		room.Created = time.Unix(c.Created, 0)
	}
	if _, known := x.users[c.Creator]; c.Creator != "" && (known || len(x.users) == 0) {
		room.Owner = x.user(c.Creator)
	}
	for _, id := range c.Members {
		room.Members = append(room.Members, x.user(id))
	}
	if c.isDirect() {
		room.Direct = []string{}
		for _, user := range append(room.Members, x.user(c.User)) {
			if user != "" && !slices.Contains(room.Direct, user) {
				room.Direct = append(room.Direct, user)
			}
		}
	}
	x.emit(c.place, Record{Kind: KindRoom, Room: c.ID, About: &room})
	if folder == "" || !fs.ValidPath(folder) || strings.ContainsAny(folder, `/\`) {
		x.problem(c.place.File, c.place.Line, "the channel's name is not a valid folder name")
		return
	}
	days, err := fs.ReadDir(x.Files, folder)
	if err != nil {
		return // a channel without messages has no folder
	}
	slices.SortFunc(days, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, day := range days {
		file := path.Join(folder, day.Name())
		if day.IsDir() || path.Ext(file) != ".json" || x.stopped {
			continue
		}
		readArray(x, file, func(n int, m slackMessage) {
			rec := x.record(m)
			rec.Room = c.ID
			x.emit(Place{file, n}, rec)
		})
	}
}

// maxElement is the largest element of a Slack file, in bytes.
const maxElement = 4 << 20

// readArray reads a JSON array from a file, element by element. An element that cannot be decoded
// becomes a record with a problem, and reading continues with the next one.
func readArray[T any](x *slackReader, file string, take func(n int, element T)) {
	f, err := x.Files.Open(file)
	if err != nil {
		x.problem(file, 0, "the file cannot be opened")
		return
	}
	defer func() { _ = f.Close() }()
	in := &io.LimitedReader{R: f, N: maxElement}
	dec := json.NewDecoder(in)
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		x.problem(file, 0, "the file is not a JSON array")
		return
	}
	cutOff := func(n int) {
		if in.N == 0 {
			x.problem(file, n, fmt.Sprintf("larger than %d bytes: the rest of the file was not read", maxElement))
		} else {
			x.problem(file, n, "not JSON from here on: the rest of the file was not read")
		}
	}
	n := 1
	for ; dec.More() && !x.stopped; n++ {
		in.N = maxElement
		var raw json.RawMessage
		if dec.Decode(&raw) != nil {
			cutOff(n)
			return
		}
		var element T
		if !utf8.Valid(raw) {
			x.problem(file, n, "not valid UTF-8")
		} else if err := json.Unmarshal(raw, &element); err != nil {
			x.problem(file, n, jsonProblem(err))
		} else {
			take(n, element)
		}
	}
	if _, err := dec.Token(); err != nil && !x.stopped {
		cutOff(0)
	}
}

type slackMessage struct {
	Type     string `json:"type"`
	Subtype  string `json:"subtype"`
	User     string `json:"user"`
	BotID    string `json:"bot_id"`
	Text     string `json:"text"`
	TS       string `json:"ts"`
	ThreadTS string `json:"thread_ts"`
	Edited   *struct {
		User string `json:"user"`
		TS   string `json:"ts"`
	} `json:"edited"`
	Reactions []struct {
		Name  string   `json:"name"`
		Users []string `json:"users"`
		Count int      `json:"count"`
	} `json:"reactions"`
	Files       []struct{} `json:"files"`
	Attachments []struct{} `json:"attachments"`
}

// slackKinds maps the subtypes that can be imported.
var slackKinds = map[string]Kind{
	"": KindMessage, "bot_message": KindMessage, "thread_broadcast": KindMessage, "me_message": KindMessage, "file_share": KindMessage,
	"channel_join": KindJoin, "group_join": KindJoin, "channel_leave": KindLeave, "group_leave": KindLeave,
	"channel_archive": KindArchive, "group_archive": KindArchive, "channel_unarchive": KindUnarchive, "group_unarchive": KindUnarchive,
}

var (
	// subtypeName is what a subtype must look like to be shown.
	subtypeName = regexp.MustCompile(`^[a-z_]{1,40}$`)
	// emojiName is the form of names that events.ValidateEmoji accepts.
	emojiName = regexp.MustCompile(`^:[a-z0-9_+-]{1,30}:$`)
)

// record makes a record of a message.
func (x *slackReader) record(m slackMessage) Record {
	kind, known := slackKinds[m.Subtype]
	at, validTime := slackTime(m.TS)
	switch {
	case m.Type != "message":
		return Record{Problem: "not a message"}
	case !known && !subtypeName.MatchString(m.Subtype):
		return Record{Problem: "messages of an unknown subtype cannot be imported"}
	case !known:
		return Record{Problem: "messages of subtype " + m.Subtype + " cannot be imported"}
	case !validTime:
		return Record{Problem: "ts must be a time like 1503435956.000247"}
	}
	rec := Record{Kind: kind, At: at, Key: m.TS}
	switch {
	case m.User != "":
		rec.Author = x.user(m.User)
	case m.BotID != "": // the name that a bot shows can be anyone's
		rec.Author = "bot-" + m.BotID
	}
	if kind != KindMessage {
		return rec
	}

	var notes, left []string
	if n := len(m.Files); n > 0 {
		left = append(left, fmt.Sprintf("%d files", n))
	}
	if n := len(m.Attachments); n > 0 {
		left = append(left, fmt.Sprintf("%d attachments", n))
	}
	if rec.Text = x.plainText(m.Text); rec.Text == "" && len(left) > 0 {
		return Record{Problem: "the message has no text, only " + strings.Join(left, " and ")}
	}
	if len(left) > 0 {
		notes = append(notes, strings.Join(left, " and ")+" left out")
	}
	if m.ThreadTS != m.TS {
		rec.Thread = m.ThreadTS
	}
	if m.Edited != nil {
		if rec.Edited, validTime = slackTime(m.Edited.TS); !validTime {
			notes = append(notes, "the time of its edit is unknown: the edited text was imported as the original")
		}
		rec.Editor = rec.Author
		if m.Edited.User != "" && m.Edited.User != m.User {
			rec.Editor = x.user(m.Edited.User)
		}
	}
	for _, r := range m.Reactions {
		name, _, _ := strings.Cut(r.Name, "::") // without the skin tone
		emoji := ":" + name + ":"
		if !emojiName.MatchString(emoji) {
			notes = append(notes, "a reaction left out: the name of its emoji is not valid")
			continue
		}
		if missing := r.Count - len(r.Users); missing > 0 {
			notes = append(notes, fmt.Sprintf("%d reactions left out: the export does not name their users", missing))
		}
		for _, user := range r.Users {
			rec.Reactions = append(rec.Reactions, Reaction{x.user(user), emoji})
		}
	}
	rec.Note = strings.Join(notes, "; ")
	return rec
}

// slackTime parses Slack's time format: seconds, a dot and up to nine digits.
func slackTime(ts string) (time.Time, bool) {
	whole, part, _ := strings.Cut(ts, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(part) > 9 || len(whole) > 12 {
		return time.Time{}, false
	}
	nanos, err := strconv.ParseUint((part + "000000000")[:9], 10, 64)
	if err != nil || seconds < 0 && nanos > 0 {
		return time.Time{}, false
	}
	return time.Unix(seconds, int64(nanos)).UTC(), true
}

// slackLink matches a link in angle brackets: a user, channel, command or URL, and after a bar its label.
var (
	slackLink   = regexp.MustCompile(`<([^<>|]*)(?:\|([^<>]*))?>`)
	slackEscape = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")
)

// plainText turns Slack's markup into plain text.
func (x *slackReader) plainText(text string) string {
	text = slackLink.ReplaceAllStringFunc(text, func(link string) string {
		parts := slackLink.FindStringSubmatch(link)
		to, label := parts[1], parts[2]
		sigil, id := "", ""
		if to != "" {
			sigil, id = to[:1], to[1:]
		}
		switch sigil {
		case "@":
			return "@" + strings.TrimPrefix(cmp.Or(label, x.user(id)), "@")
		case "!":
			return "@" + strings.TrimPrefix(cmp.Or(label, id), "@")
		case "#":
			return "#" + cmp.Or(label, x.channels[id], id)
		}
		if label == "" || label == to || "http://"+label == to || "mailto:"+label == to {
			return strings.TrimPrefix(to, "mailto:")
		}
		return label + " (" + to + ")"
	})
	return strings.ToValidUTF8(slackEscape.Replace(text), "\uFFFD")
}
