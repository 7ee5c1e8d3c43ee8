package source

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

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

// slackKinds says what the subtypes are that can be taken.
var slackKinds = map[string]Kind{
	"": KindMessage, "bot_message": KindMessage, "thread_broadcast": KindMessage, "me_message": KindMessage, "file_share": KindMessage,
	"channel_join": KindJoin, "group_join": KindJoin, "channel_leave": KindLeave, "group_leave": KindLeave,
	"channel_archive": KindArchive, "group_archive": KindArchive, "channel_unarchive": KindUnarchive, "group_unarchive": KindUnarchive,
}

// message makes a record of a message.
func (x *slackExport) message(m slackMessage) Record {
	kind, known := slackKinds[m.Subtype]
	at, ok := slackTime(m.TS)
	switch {
	case m.Type != "message":
		return Record{Problem: "it is no message"}
	case !known:
		return Record{Problem: "messages of subtype " + subtypeName(m.Subtype) + " cannot be taken"}
	case !ok:
		return Record{Problem: "ts must be a time like 1503435956.000247"}
	}
	rec := Record{Kind: kind, At: at, Key: m.TS, Author: x.author(m)}
	if kind != KindMessage {
		return rec
	}
	rec.Text = renderSlack(x, m.Text)
	switch left := leftOut(m); {
	case rec.Text == "" && left != "":
		return Record{Problem: "it has no text, only " + left}
	case left != "":
		rec.Note = left + " cannot be taken, its text was"
	}
	if m.ThreadTS != m.TS {
		rec.Thread = m.ThreadTS
	}
	if m.Edited != nil {
		if rec.Edited, ok = slackTime(m.Edited.TS); !ok {
			rec.Note = join(rec.Note, "it was edited at no known time: its last text was taken as the first")
		}
		rec.Editor = rec.Author
		if m.Edited.User != "" && m.Edited.User != m.User {
			rec.Editor = x.user(m.Edited.User)
		}
	}
	x.reactions(m, &rec)
	return rec
}

func (x *slackExport) reactions(m slackMessage, rec *Record) {
	for _, r := range m.Reactions {
		name, _, _ := strings.Cut(r.Name, "::") // a tone of skin
		emoji := ":" + name + ":"
		if !emojiName.MatchString(emoji) {
			rec.Note = join(rec.Note, "a reaction whose emoji has a name that cannot be")
			continue
		}
		if r.Count > len(r.Users) {
			rec.Note = join(rec.Note, fmt.Sprintf("%d reactions whose users the export does not name", r.Count-len(r.Users)))
		}
		for _, user := range r.Users {
			rec.Reactions = append(rec.Reactions, Reaction{x.user(user), emoji})
		}
	}
}

// emojiName is what events.ValidateEmoji takes of names.
var emojiName = regexp.MustCompile(`^:[a-z0-9_+-]{1,30}:$`)

// author is who said it. A bot goes by its id: the name it shows may be anybody's.
func (x *slackExport) author(m slackMessage) string {
	switch {
	case m.User != "":
		return x.user(m.User)
	case m.BotID != "":
		return "bot-" + m.BotID
	default:
		return ""
	}
}

func leftOut(m slackMessage) string {
	var parts []string
	if n := len(m.Files); n > 0 {
		parts = append(parts, fmt.Sprintf("%d files", n))
	}
	if n := len(m.Attachments); n > 0 {
		parts = append(parts, fmt.Sprintf("%d attachments", n))
	}
	return strings.Join(parts, " and ")
}

func join(note, more string) string {
	if note == "" {
		return more
	}
	return note + "; " + more
}

// subtypeName shows a subtype only where it looks like one.
func subtypeName(subtype string) string {
	if regexp.MustCompile(`^[a-z_]{1,40}$`).MatchString(subtype) {
		return subtype
	}
	return "of no known form"
}

// slackTime reads a time of Slack's: seconds, a dot and six digits.
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

// slackLink is what stands between angle brackets: a user, a channel, a command or a link, and
// behind a bar what it reads as.
var (
	slackLink   = regexp.MustCompile(`<([^<>|]*)(?:\|([^<>]*))?>`)
	slackEscape = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")
)

// renderSlack turns Slack's markup into plain text.
func renderSlack(x *slackExport, text string) string {
	text = slackLink.ReplaceAllStringFunc(text, func(link string) string {
		parts := slackLink.FindStringSubmatch(link)
		to, label := parts[1], parts[2]
		switch {
		case strings.HasPrefix(to, "@"):
			if label == "" {
				label = x.user(to[1:])
			}
			return "@" + strings.TrimPrefix(label, "@")
		case strings.HasPrefix(to, "#"):
			if label == "" {
				if label = x.channels[to[1:]]; label == "" {
					label = to[1:]
				}
			}
			return "#" + label
		case strings.HasPrefix(to, "!"):
			if label == "" {
				label = strings.TrimPrefix(to, "!")
			}
			return "@" + strings.TrimPrefix(label, "@")
		case label == "" || label == to || "http://"+label == to || "mailto:"+label == to:
			return strings.TrimPrefix(to, "mailto:")
		default:
			return label + " (" + to + ")"
		}
	})
	return strings.ToValidUTF8(slackEscape.Replace(text), "\uFFFD")
}
