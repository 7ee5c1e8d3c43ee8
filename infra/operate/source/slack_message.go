package source

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"parley/events"
)

// membership is the form of subtypes that say who is in a channel and whether it is archived. All other
// subtypes are of something that was said, by whom and in whatever way.
var membership = regexp.MustCompile(`^(?:channel|group|mpim|im|conversation)_(join|leave|archive|unarchive|topic|name)$`)

var membershipKinds = map[string]Kind{"join": KindJoin, "leave": KindLeave, "archive": KindArchive, "unarchive": KindUnarchive}

// slackTS parses Slack's time format: seconds, a dot and six digits, as a text or a number. It returns the
// key of the message: the usual text.
func slackTS(text string) (at time.Time, key string, ok bool) {
	if at, ok = parseTime(text); !ok {
		return at, "", false
	}
	if part := at.Nanosecond(); part%1000 != 0 {
		return at, fmt.Sprintf("%d.%09d", at.Unix(), part), true
	}
	return at, fmt.Sprintf("%d.%06d", at.Unix(), at.Nanosecond()/1000), true
}

// slackRef returns the reference to the message of a time.
func slackRef(text string) (Ref, bool) {
	at, key, ok := slackTS(text)
	return Ref{Key: key, At: at}, ok
}

// record makes a record of a message.
func (x *slackReader) record(o *object) Record {
	if changed := o.object("message"); o.text("subtype") == "message_changed" && len(changed.fields) > 0 {
		return x.record(changed)
	}
	kind, subtype := o.text("type"), o.text("subtype")
	at, key, ok := slackTS(o.text("ts"))
	switch {
	case kind != "" && kind != "message" || o.raw("ts") == nil:
		return Record{Problem: "not a message"}
	case !ok:
		return Record{Problem: "ts must be a time like 1503435956.000247"}
	}
	rec := Record{Kind: KindMessage, At: at, Key: key, Author: x.author(o), exact: true}
	if parts := membership.FindStringSubmatch(subtype); parts != nil {
		if x.membership(o, parts[1], &rec) {
			rec.Note = o.notes()
			return rec
		}
	}
	x.content(o, &rec)
	return rec
}

// membership makes rec a record of who is in a channel, what it is called, or whether it is archived.
func (x *slackReader) membership(o *object, what string, rec *Record) bool {
	kind, is := membershipKinds[what]
	switch {
	case is:
		rec.Kind = kind
	case what == "name" && o.text("name") != "":
		name := roomName(o.text("name"))
		rec.Kind, rec.Update = KindUpdate, events.RoomUpdated{Name: &name}
	case what == "topic" && o.raw("topic") != nil:
		topic := oneLine(x.plainText(o.text("topic")), events.MaxTopicChars)
		rec.Kind, rec.Update = KindUpdate, events.RoomUpdated{Topic: &topic}
	default:
		return false
	}
	return true
}

// author returns who wrote a message: the name that a bot shows can be anyone's, so its id is preferred.
func (x *slackReader) author(o *object) string {
	if user := o.text("user"); user != "" {
		return user
	}
	if user := firstText(o.object("comment").text("user"), o.object("file").text("user")); user != "" {
		return user
	}
	if bot := firstText(o.text("bot_id"), o.object("bot_profile").text("id"), o.text("username"), o.text("service_name")); bot != "" {
		return "bot-" + bot
	}
	return ""
}

// content fills in what a message says.
func (x *slackReader) content(o *object, rec *Record) {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	defer func() {
		if odd := o.notes(); odd != "" {
			notes = append(notes, odd)
		}
		rec.Note = strings.Join(notes, "; ")
	}()
	parts := []string{x.plainText(o.text("text"))}
	if parts[0] == "" {
		parts[0] = strings.TrimSpace(x.blocks(o.list("blocks")))
	}
	if parts[0] == "" {
		parts[0] = x.plainText(o.object("comment").text("comment"))
	}
	previews := 0
	for _, a := range o.objects("attachments") {
		text := x.attachment(a)
		if shared, _ := a.flag("is_share"); parts[0] != "" && !shared && firstText(a.text("from_url"), a.text("original_url")) != "" {
			previews++ // of a link in the text
		} else if text != "" && !strings.Contains(parts[0], text) {
			parts = append(parts, text)
		}
	}
	if previews > 0 {
		note("%d link previews left out", previews)
	}
	files := o.objects("files")
	if file := o.object("file"); len(files) == 0 && len(file.fields) > 0 {
		files = append(files, file)
	}
	for _, f := range files {
		if text := firstText(f.text("title"), f.text("name")); text != "" {
			parts = append(parts, strings.TrimSpace("[file] "+text+" "+firstText(f.text("permalink"), f.text("url_private"))))
		}
	}
	if len(files) > 0 {
		note("%d files left out", len(files))
	}
	rec.Text = joinLines(parts)
	thread, threadKey, inThread := slackTS(o.text("thread_ts"))
	if text := o.text("thread_ts"); !inThread && text != "" {
		o.isOdd("thread_ts")
	}
	if rec.Text == "" {
		if !inThread || threadKey != rec.Key { // its replies keep together below it
			rec.Problem = "the message has no text" + strings.TrimSuffix(", only "+strings.Join(notes, " and "), ", only ")
			return
		}
		rec.Text = "(message without text)"
		note("the message has no text and begins a thread: imported without content")
	}
	if inThread && threadKey != rec.Key {
		rec.Thread = Ref{Key: threadKey, At: thread}
	}
	if edited := o.object("edited"); o.raw("edited") != nil {
		if rec.Edited, _, inThread = slackTS(edited.text("ts")); !inThread {
			note("the time of its edit is unknown: the edited text was imported as the original")
		}
		rec.Editor = firstText(edited.text("user"), rec.Author)
	}
	x.reactions(o, rec, note)
	if pinned := o.object("pinned_info"); len(pinned.fields) > 0 || len(o.list("pinned_to")) > 0 {
		rec.Pinned = firstText(pinned.text("pinned_by"), rec.Author)
	}
}

func (x *slackReader) reactions(o *object, rec *Record, note func(string, ...any)) {
	for _, r := range o.objects("reactions") {
		name, _, _ := strings.Cut(r.text("name"), "::") // without the skin tone
		emoji := ":" + name + ":"
		if events.ValidateEmoji("emoji", name) == nil { // it is no name
			emoji = name
		}
		if events.ValidateEmoji("emoji", emoji) != nil {
			note("a reaction left out: the name of its emoji is not valid")
			continue
		}
		users, _ := r.texts("users")
		var count int
		_ = json.Unmarshal([]byte(r.text("count")), &count) // 0 if it is none
		if missing := count - len(users); missing > 0 {
			note("%d reactions left out: the export does not name their users", missing)
		}
		for _, user := range users {
			rec.Reactions = append(rec.Reactions, Reaction{user, emoji})
		}
		o.odd = append(o.odd, r.odd...)
	}
}
