package source

import (
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"
)

// Slack is a source in Slack's export format: channels.json (and groups.json, mpims.json, dms.json),
// users.json, and a folder for each channel with a file for each day.
type Slack struct {
	Files fs.FS
	// IDs names authors by Slack's ids ("U024BE7LH"), which never change, and not by user names.
	IDs bool
}

// slackLists are the files that say which channels there are.
var slackLists = []string{"channels.json", "groups.json", "mpims.json", "dms.json"}

// findSlack returns the folder an export lies in, the top or one below it; nil if there is none.
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
			if _, err := fs.Stat(files, path.Join(dir, list)); err == nil {
				sub, err := fs.Sub(files, dir)
				if err == nil {
					return sub
				}
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
	Topic   struct {
		Value string `json:"value"`
	} `json:"topic"`
	list     string
	position int
}

type slackUser struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"`
	Updated int64  `json:"updated"`
	Profile struct {
		RealName string `json:"real_name"`
	} `json:"profile"`
}

// slackExport is an export being read.
type slackExport struct {
	Slack
	users    map[string]slackUser
	channels map[string]string // names by id
	yield    func(Record) bool
}

// Records implements [Source].
func (s Slack) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		x := &slackExport{
			Slack: s, users: map[string]slackUser{}, channels: map[string]string{},
			yield: func(r Record) bool { return yield(r, nil) },
		}
		if !x.readUsers() {
			return
		}
		channels, more := x.readChannels()
		for _, c := range channels {
			if !more {
				return
			}
			more = x.readChannel(c)
		}
	}
}

// readUsers reads who there is. It says whether more records are wanted, like all that follow.
func (x *slackExport) readUsers() bool {
	const file = "users.json"
	if _, err := fs.Stat(x.Files, file); errors.Is(err, fs.ErrNotExist) {
		return x.yield(Record{Place: Place{file, 0}, Problem: "the file is missing: authors are named by their ids"})
	}
	var all []slackUser
	more := readArray(x, file, func(n int, u slackUser) bool {
		if u.ID != "" {
			x.users[u.ID] = u
			all = append(all, u)
		}
		return true
	})
	for i, u := range all {
		if !more {
			return false
		}
		name := oneLine(u.Profile.RealName, 100)
		if u.Updated <= 0 || strings.TrimSpace(name) == "" {
			continue
		}
		more = x.yield(Record{
			Place: Place{file, i + 1}, Kind: KindProfile, At: time.Unix(u.Updated, 0), Author: x.user(u.ID), Text: name,
		})
	}
	return more
}

// user is the name by which an author goes.
func (x *slackExport) user(id string) string {
	if u, known := x.users[id]; known && !x.IDs && u.Name != "" {
		return u.Name
	}
	return id
}

func (x *slackExport) readChannels() ([]slackChannel, bool) {
	var channels []slackChannel
	more := true
	for _, file := range slackLists {
		if _, err := fs.Stat(x.Files, file); err != nil || !more {
			continue
		}
		more = readArray(x, file, func(n int, c slackChannel) bool {
			if c.ID == "" {
				return x.yield(Record{Place: Place{file, n}, Problem: "the channel has no id"})
			}
			c.list, c.position = file, n
			if c.Name != "" {
				x.channels[c.ID] = c.Name
			}
			channels = append(channels, c)
			return true
		})
	}
	return channels, more
}

// readChannel reads one channel: what it is, then day by day what was said.
func (x *slackExport) readChannel(c slackChannel) bool {
	room := Room{Name: c.Name, Topic: renderSlack(x, c.Topic.Value), Private: c.list != "channels.json", Created: time.Unix(c.Created, 0)}
	if c.Created <= 0 {
		room.Created = time.Time{}
	}
	if c.Creator != "" {
		room.Owner = x.user(c.Creator)
	}
	for _, id := range c.Members {
		room.Members = append(room.Members, x.user(id))
	}
	folder := c.Name
	if c.list == "dms.json" {
		room.Direct, folder = room.Members, c.ID
	}
	if !x.yield(Record{Place: Place{c.list, c.position}, Kind: KindRoom, Room: c.ID, About: &room}) {
		return false
	}
	if folder == "" || !fs.ValidPath(folder) || strings.ContainsAny(folder, `/\`) {
		return x.yield(Record{Place: Place{c.list, c.position}, Problem: "the channel's name is none of a folder"})
	}
	days, err := fs.ReadDir(x.Files, folder)
	if err != nil {
		return true // nothing was ever said in it
	}
	slices.SortFunc(days, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, day := range days {
		file := path.Join(folder, day.Name())
		if day.IsDir() || path.Ext(file) != ".json" {
			continue
		}
		more := readArray(x, file, func(n int, m slackMessage) bool {
			rec := x.message(m)
			rec.Place, rec.Room = Place{file, n}, c.ID
			return x.yield(rec)
		})
		if !more {
			return false
		}
	}
	return true
}
