package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// line is one message of a conversation.
type line struct {
	Room   string    `json:"room"`
	Author string    `json:"author"`
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
}

// readConversation reads a file of JSON lines, or makes one up.
func readConversation(name string) ([]line, error) {
	if name == "generated" {
		return generate(11_291, 7, 33), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("-replay: %w", err)
	}
	defer func() { _ = f.Close() }()
	var lines []line
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("-replay: line %d is not a message: %w", len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("-replay: %w", err)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("-replay: %s holds no messages", name)
	}
	return lines, nil
}

// generate makes up a conversation: always the same, a few who say most, short and long texts.
func generate(n, rooms, authors int) []line {
	r := rand.New(rand.NewPCG(13, 1970))
	words := strings.Fields("roger copy standby the we have a you to go for is okay 13 Houston pressure quad reading over that on")
	lines := make([]line, n)
	at := time.Unix(0, 0).UTC()
	for i := range lines {
		at = at.Add(time.Duration(1+r.IntN(60)) * time.Second)
		text := make([]string, 1+int(r.ExpFloat64()*15))
		for j := range text {
			text[j] = words[r.IntN(len(words))]
		}
		lines[i] = line{
			Room:   fmt.Sprintf("room %d", min(rooms-1, int(r.ExpFloat64()*2))),
			Author: fmt.Sprintf("author-%02d", min(authors-1, int(r.ExpFloat64()*3))),
			At:     at,
			Text:   strings.Join(text, " "),
		}
	}
	return lines
}

// members returns the rooms of a conversation, in order of their first message, and who speaks
// in each.
func members(lines []line) (rooms []string, authors map[string][]string) {
	authors = map[string][]string{}
	for _, l := range lines {
		if authors[l.Room] == nil {
			rooms = append(rooms, l.Room)
		}
		if !slices.Contains(authors[l.Room], l.Author) {
			authors[l.Room] = append(authors[l.Room], l.Author)
		}
	}
	return rooms, authors
}
