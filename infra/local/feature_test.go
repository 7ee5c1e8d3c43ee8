package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestPageFeatures does on the page what people do in a chat, and looks at it.
func TestPageFeatures(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	s := serve(t, pageSettings(t))
	bob, grace := s.at(1, "bob"), s.at(2, "grace")
	for user, c := range map[string]*client{"Bob": bob, "Grace Hopper": grace} {
		c.must("PUT", "/v1/users/"+c.user, map[string]string{"name": user})
	}
	room := furnish(t, s, bob, grace)

	signIn := &tab{t, browser, "nobody"}
	signIn.do(chromedp.EmulateViewport(1440, 900), chromedp.Navigate(s.url(0)), chromedp.WaitVisible("#name", chromedp.ByQuery))
	signIn.shot("sign-in")
	ada := person(t, browser, s.url(0)+"/#/rooms/"+room, "Ada Lovelace")
	ada.until("the room is open", `document.querySelectorAll('.conversation .message').length === 6`)
	bob.must("PUT", "/v1/direct/ada-lovelace", nil)

	answered(ada, bob, room)
	edited(ada)
	threaded(ada, bob, room)
	ada.shot("thread")
	ada.click(`.side [aria-label="Close"]`)
	unread(t, s, ada, bob, grace)
	ada.click("#people-button")
	ada.until("all are listed", `document.querySelectorAll('.people li').length === 3`)
	ada.shot("people")
	travelled(ada)
	deleted(ada)
	ada.click(`[title^="New room"]`)
	ada.shot("new-room")
	ada.do(press("Escape"))
	ada.click("#regions-button")
	ada.shot("features-light")
}

// furnish makes the rooms in which things happen.
func furnish(t *testing.T, s *running, bob, grace *client) (room string) {
	t.Helper()
	room = bob.create("Analytical Engine")
	bob.must("PATCH", "/v1/rooms/"+room, map[string]string{"topic": "Cards, cogs and what they might compute"})
	grace.join(room)
	last := ""
	for i, text := range []string{
		"Has anybody seen the punched cards for Note G?",
		"They are on the second shelf, behind the difference engine.",
		"Found them. One was put in upside down, so Bernoulli’s seventh number came out negative.",
		"That is what we call a bug. I once taped one into the logbook. 🐛",
		"Rehearsal is at four. Bring tea.",
		"☕",
	} {
		speaker := []*client{bob, grace}[i%2]
		said := map[string]string{"text": text}
		if last != "" {
			said["after"] = last
		}
		last, _ = speaker.must("POST", "/v1/rooms/"+room+"/messages", said)["id"].(string)
	}
	s.agree(room, "bob", 6)
	return room
}

// answered replies to a message with the keyboard, and sees the other type.
func answered(ada *tab, bob *client, room string) {
	ada.pressOn(2, "r", `document.querySelector('.about').textContent.includes('Replying to Bob')`)
	ada.say("Negative? Then it is the eighth, and the card was right.")
	ada.until("the reply is accepted", `document.querySelector('.conversation .message.mine .reference') && document.querySelector('.message.mine .sent')`)
	ada.react("👍")
	var last string
	ada.eval(`[...document.querySelectorAll('.conversation .message')].at(-2).dataset.id`, &last)
	bob.soon("PUT", "/v1/rooms/"+room+"/messages/"+last+"/reactions/👍", nil)
	ada.until("both reactions count", `document.querySelector('.reaction').textContent === '👍2'`)
}

// edited changes the last message with the arrow key.
func edited(ada *tab) {
	ada.say("Tea is a necesity.")
	ada.until("it is sent", `document.querySelectorAll('.message.mine .sent').length === 2`)
	ada.do(chromedp.Focus(writeHere, chromedp.ByQuery), press("ArrowUp"))
	ada.until("it is being edited", `document.querySelector('`+writeHere+`').value === 'Tea is a necesity.'`)
	ada.eval(`document.querySelector('`+writeHere+`').value = ''`, nil)
	ada.say("Tea is a necessity.")
	ada.until("it is edited", `[...document.querySelectorAll('.conversation .text')].at(-1).textContent === 'Tea is a necessity. (edited)'`)
}

// threaded talks beside the room.
func threaded(ada *tab, bob *client, room string) {
	ada.pressOn(0, "t", `document.querySelectorAll('.thread .message').length === 1`)
	ada.do(chromedp.SendKeys(".thread textarea", "In the drawer marked VARIABLES?", chromedp.ByQuery), press("Enter"))
	var root string
	ada.eval(`document.querySelector('.thread .message').dataset.id`, &root)
	bob.soon("POST", "/v1/rooms/"+room+"/messages", map[string]string{"text": "That drawer is constant, I am afraid.", "thread": root})
	ada.until("the thread goes on", `document.querySelectorAll('.thread .message').length === 3 && document.querySelector('.conversation .replies')?.textContent === '2 replies'`)
}

// unread counts what is said elsewhere.
func unread(t *testing.T, s *running, ada *tab, bob, grace *client) {
	t.Helper()
	other := grace.create("Compilers")
	grace.must("PUT", "/v1/rooms/"+other+"/members/ada-lovelace", nil)
	ada.until("the invitation is there", `document.querySelector('.invitation .name')?.textContent === 'Compilers'`)
	ada.click(`.invitation button`)
	ada.until("the other room is there", `[...document.querySelectorAll('.room-list [data-room] .name')].some((e) => e.textContent === 'Compilers')`)
	for i := range 3 {
		grace.post(other, fmt.Sprintf("A-%d compiles itself now.", i))
	}
	direct, _ := bob.must("PUT", "/v1/direct/ada-lovelace", nil)["id"].(string)
	bob.post(direct, "A word in private: the card was mine.")
	ada.until("what is unread is counted", `[...document.querySelectorAll('.badge')].map((e) => e.firstChild.textContent).sort().join() === '1,3' && document.title.startsWith('(4)')`)
}

// travelled goes back to when the room had three messages, and returns.
func travelled(ada *tab) {
	ada.eval(`document.querySelectorAll('.conversation .message')[3].focus()`, nil)
	ada.click(`.tools [aria-label="See the room as it was then"]`)
	ada.until("the past is shown", `document.querySelector('.in-past') && document.querySelectorAll('.conversation .message').length === 4 && !document.querySelector('.conversation .replies')`)
	ada.shot("time-slider")
	ada.click(`[aria-label="One event back"]`)
	ada.until("one message fewer", `document.querySelectorAll('.conversation .message').length === 3`)
	ada.eval(`(() => { const e = document.querySelector('.time-slider [type=range]'); e.value = e.max; e.dispatchEvent(new Event('input')); })()`, nil)
	ada.until("the latest event", `document.querySelectorAll('.conversation .message').length > 9`)
	ada.do(chromedp.Focus(".time-slider [type=range]", chromedp.ByQuery), press("Escape"))
	ada.until("the present is back", `!document.querySelector('.in-past') && document.activeElement.matches('textarea')`)
}

// deleted takes a message back, after a question.
func deleted(ada *tab) {
	ada.eval(`[...document.querySelectorAll('.conversation .message.mine')].at(-1).focus()`, nil)
	ada.do(press("Delete"))
	ada.click(`dialog .danger`)
	ada.until("it is gone", `document.querySelectorAll('.conversation .text.gone').length === 1`)
}

// TestPageOfALongRoom pages through a long room, up and down, with few elements at a time.
func TestPageOfALongRoom(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	s := serve(t, pageSettings(t))
	bob := s.at(1, "bob")
	room := bob.create("Long")
	s.at(1, "ada").join(room) // before: a page that joins receives the last events before, too
	const messages = 1500
	for i := range messages {
		bob.post(room, fmt.Sprintf("line %d", i))
	}
	ada := person(t, browser, s.url(0)+"/#/rooms/"+room, "Ada")
	ada.until("the end is shown", fmt.Sprintf(`[...document.querySelectorAll('.conversation .text')].at(-1)?.textContent === 'line %d'`, messages-1))
	seen := map[string]bool{}
	gather := func(end, scroll string) {
		if !eventually(time.Minute, func() bool {
			texts := ada.said()
			for i, text := range texts {
				seen[text] = true
				var a, b int
				if i > 0 && scan(texts[i-1], &a) && scan(text, &b) && b != a+1 {
					t.Fatalf("%s stands after %s", text, texts[i-1])
				}
			}
			if len(texts) > 300 {
				t.Fatalf("%d messages are on the page", len(texts))
			}
			ada.eval(scroll, nil)
			return seen[end] && (len(seen) == messages || !strings.Contains(end, " 0"))
		}) {
			t.Fatalf("%s was not reached; %d were seen", end, len(seen))
		}
	}
	gather("line 0", `document.querySelector('.scroll').scrollTop = 0`)
	bob.post(room, "something new")
	ada.until("there is news below", `document.querySelector('.latest').textContent.includes('1 new')`)
	delete(seen, fmt.Sprintf("line %d", messages-1))
	gather(fmt.Sprintf("line %d", messages-1), `(() => { const e = document.querySelector('.scroll'); e.scrollTop = e.scrollHeight; })()`)
	ada.until("the news is there", `[...document.querySelectorAll('.conversation .text')].at(-1).textContent === 'something new'`)
	travelledFar(ada)
}

// travelledFar goes from one end of a long room to the other, though the page holds little of it,
// and from event to event.
func travelledFar(ada *tab) {
	ada.click("#time-button")
	slide := func(to, last string) {
		ada.eval(`(() => { const e = document.querySelector('.time-slider [type=range]'); e.value = e.`+to+`; e.dispatchEvent(new Event('input')); })()`, nil)
		ada.until("the slider's "+to+" is shown", last+` === [...document.querySelectorAll('.in-past .text')].at(-1)?.textContent`)
	}
	ada.until("it is known how far back the room goes", `document.querySelector('.time-slider [type=range]').max === '1000'`)
	slide("max", `'something new'`)
	slide("min", `'line 0'`)
	for i := range 3 {
		ada.click(`[aria-label="One event forward"]`)
		ada.until("the next event is shown", fmt.Sprintf(`[...document.querySelectorAll('.in-past .text')].at(-1)?.textContent === 'line %d'`, i+1))
	}
	ada.click(`[aria-label="One event back"]`)
	ada.until("the event before is shown", `[...document.querySelectorAll('.in-past .text')].at(-1)?.textContent === 'line 2'`)
}

func scan(text string, n *int) bool {
	_, err := fmt.Sscanf(text, "line %d", n)
	return err == nil
}
