package source

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
)

// slackLink matches what stands in angle brackets: a user, channel, group, date, command or URL, and
// behind a bar its label.
var (
	slackLink   = regexp.MustCompile(`<([^<>|]*)(?:\|([^<>]*))?>`)
	slackEscape = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")
)

// plainText turns Slack's markup into plain text.
func (x *slackReader) plainText(text string) string {
	text = slackLink.ReplaceAllStringFunc(text, func(link string) string {
		parts := slackLink.FindStringSubmatch(link)
		return x.linkText(parts[1], parts[2])
	})
	return strings.ToValidUTF8(slackEscape.Replace(text), "\uFFFD")
}

// linkText returns the text of what stands in angle brackets.
func (x *slackReader) linkText(to, label string) string {
	id := strings.TrimLeft(to, "@#!")
	switch {
	case strings.HasPrefix(to, "@"):
		return "@" + strings.TrimPrefix(cmp.Or(label, x.name(id)), "@")
	case strings.HasPrefix(to, "#"):
		return "#" + strings.TrimPrefix(cmp.Or(label, x.channels[id], id), "#")
	case strings.HasPrefix(to, "!"):
		return commandText(strings.Split(id, "^"), label)
	case label == "" || label == to || "http://"+label == to || "mailto:"+label == to:
		return strings.TrimPrefix(to, "mailto:")
	default:
		return label + " (" + to + ")"
	}
}

// commandText returns the text of <!name^argument^…|label>.
func commandText(parts []string, label string) string {
	switch name := parts[0]; {
	case name == "date" && label != "":
		return label
	case name == "date":
		at, ok := parseTime(slices.Concat(parts, []string{"", ""})[1])
		if !ok {
			return "(a date)"
		}
		return at.Format("2006-01-02 15:04 UTC")
	case name == "subteam" && label == "":
		return "@group " + slices.Concat(parts, []string{""})[1]
	case slices.Contains([]string{"here", "channel", "everyone", "group", "subteam"}, name):
		return "@" + strings.TrimPrefix(cmp.Or(label, name), "@")
	default: // of some application
		return cmp.Or(label, strings.Join(parts, " "))
	}
}

// joinLines joins the texts that are not empty, one a line.
func joinLines(texts []string) string {
	texts = slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return strings.TrimSpace(text) == "" })
	return strings.Join(texts, "\n")
}

// attachment returns what an attachment says.
func (x *slackReader) attachment(a *object) string {
	title := x.plainText(a.text("title"))
	if link := a.text("title_link"); title != "" && link != "" {
		title += " (" + link + ")"
	}
	parts := []string{x.plainText(a.text("pretext")), x.plainText(a.text("author_name")), title, x.plainText(a.text("text"))}
	for _, field := range a.objects("fields") {
		name, value := x.plainText(field.text("title")), x.plainText(field.text("value"))
		parts = append(parts, strings.Trim(name+": "+value, ": "))
	}
	parts = append(parts, strings.TrimSpace(x.blocks(a.list("blocks"))), x.plainText(a.text("footer")))
	if joinLines(parts[:len(parts)-1]) == "" {
		return firstText(x.plainText(a.text("fallback")), x.plainText(a.text("image_url")))
	}
	return joinLines(parts[:len(parts)-1])
}

// maxBlockDepth bounds how deep blocks are nested.
const maxBlockDepth = 20

// blocks returns the text of blocks, which is elsewhere as well in most messages.
func (x *slackReader) blocks(list []json.RawMessage) string {
	var b strings.Builder
	for _, raw := range list {
		x.writeBlock(&b, raw, maxBlockDepth)
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// writeBlock appends the text of a block or of an element of one.
func (x *slackReader) writeBlock(b *strings.Builder, raw json.RawMessage, depth int) {
	o, problem := decodeObject(raw)
	if problem != "" || depth == 0 {
		return
	}
	kind := o.text("type")
	inline := true
	switch kind {
	case "text":
		b.WriteString(o.text("text"))
	case "link":
		b.WriteString(x.linkText(o.text("url"), o.text("text")))
	case "user":
		b.WriteString(x.linkText("@"+o.text("user_id"), ""))
	case "channel":
		b.WriteString(x.linkText("#"+o.text("channel_id"), ""))
	case "usergroup":
		b.WriteString(commandText([]string{"subteam", o.text("usergroup_id")}, ""))
	case "broadcast":
		b.WriteString("@" + o.text("range"))
	case "emoji":
		b.WriteString(":" + o.text("name") + ":")
	case "date":
		b.WriteString(firstText(o.text("fallback"), dateText(o.time("timestamp"))))
	case "mrkdwn":
		b.WriteString(x.plainText(o.text("text")))
	case "plain_text":
		b.WriteString(o.text("text"))
	case "image":
		b.WriteString(firstText(o.text("alt_text"), o.text("image_url")))
	default:
		inline = false
	}
	if inline {
		return
	}
	for _, name := range []string{"text", "title"} {
		if o.raw(name) != nil && o.raw(name)[0] == '{' {
			x.writeBlock(b, o.raw(name), depth-1)
			endLine(b)
		}
	}
	for _, name := range []string{"fields", "elements"} {
		for _, inner := range o.list(name) {
			if kind == "rich_text_list" {
				b.WriteString("- ")
			}
			x.writeBlock(b, inner, depth-1)
			if kind == "rich_text_list" || name == "fields" {
				endLine(b)
			}
		}
	}
	endLine(b)
}

func endLine(b *strings.Builder) {
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
}

func dateText(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02 15:04 UTC")
}
