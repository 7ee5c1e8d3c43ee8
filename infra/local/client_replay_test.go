package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"parley/events"
)

// said is a message of a conversation.
type said struct{ Room, Author, Text string }

// conversationOf returns the first n messages of the Apollo 13 transcript, or generated ones if the file
// does not exist.
func conversationOf(t *testing.T, n int) []said {
	t.Helper()
	f, err := os.Open("../../../shared/data/apollo13.jsonl")
	if err != nil {
		random := rand.New(rand.NewPCG(13, 1970))
		made := make([]said, n)
		for i := range made {
			made[i] = said{
				Room: fmt.Sprint("room ", random.IntN(4)), Author: fmt.Sprint("author-", random.IntN(12)),
				Text: strings.Repeat("roger ", 1+random.IntN(20)),
			}
		}
		return made
	}
	defer func() { _ = f.Close() }()
	var lines []said
	for in := bufio.NewScanner(f); in.Scan() && len(lines) < n; {
		var l said
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

// TestClientsReplay replays a conversation among fifty clients, while one region fails and another is
// isolated, until both work again. All clients end with the same messages.
func TestClientsReplay(t *testing.T) {
	t.Parallel()
	const listeners = 50
	messages := 1200
	if testing.Short() {
		messages = 400
	}
	s := serve(t, testSettings(t.TempDir()))
	lines := conversationOf(t, messages)
	clients := make([]*listener, listeners)
	for i := range clients {
		first := i % 3 // each region is preferred by a third
		o := s.options(fmt.Sprint("user-", i), 1+first, 1+(first+1)%3, 1+(first+2)%3)
		if o.NoSocket = i%5 == 0; i%5 == 1 {
			o.Endpoints = []string{s.url(0)} // the global one
		}
		clients[i] = listen(t, o)
	}
	rooms, authors := map[string]string{}, map[string]int{}
	for _, l := range lines {
		if rooms[l.Room] == "" {
			rooms[l.Room] = clients[len(rooms)].create(l.Room)
		}
		if _, known := authors[l.Author]; !known {
			authors[l.Author] = len(authors) % listeners
		}
	}
	var joining sync.WaitGroup
	for _, c := range clients {
		joining.Go(func() {
			for _, room := range rooms {
				c.join(room)
			}
			c.live()
		})
	}
	joining.Wait()

	ids := map[string]map[events.ID]bool{}
	for _, room := range rooms {
		ids[room] = map[events.ID]bool{}
	}
	var mu sync.Mutex
	var accepted atomic.Int64
	var work sync.WaitGroup
	lanes := map[string]chan said{}
	for author, i := range authors {
		lane := make(chan said, messages)
		lanes[author] = lane
		work.Go(func() {
			for l := range lane {
				m := clients[i].post(rooms[l.Room], l.Text)
				mu.Lock()
				ids[rooms[l.Room]][m.ID] = true
				mu.Unlock()
				switch int(accepted.Add(1)) {
				case messages / 4:
					s.state("one", stateFailing)
					s.state("two", stateIsolated)
				case messages * 3 / 4:
					s.state("one", stateUp)
					s.state("two", stateUp)
				}
			}
		})
	}
	for _, l := range lines {
		lanes[l.Author] <- l
	}
	for _, lane := range lanes {
		close(lane)
	}
	work.Wait()

	resets := 0
	for _, room := range rooms {
		for _, c := range clients {
			c.await("everything", func() bool { return len(c.has(room)) >= len(ids[room]) })
		}
	}
	statuses := map[string]int{}
	for _, c := range clients {
		c.stop()
		for _, room := range rooms {
			if !maps.Equal(c.has(room), ids[room]) {
				t.Errorf("%s has other messages than were posted", c.User())
			}
		}
		resets += c.resets
		for _, status := range c.statuses {
			statuses[status]++
		}
	}
	if resets != listeners {
		t.Errorf("%d resets", resets)
	}
	for _, room := range rooms {
		s.agree(room, clients[0].User(), len(ids[room]))
	}
	t.Logf("%d messages, %d clients, statuses %v", messages, listeners, statuses)
}
