package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// hostile are texts that must be shown as they are.
var hostile = []string{
	`<img src=x onerror="document.title='hacked'">`,
	`<script>document.title='hacked'</script>`,
	`"><svg onload=alert(1)>`,
	`javascript:alert(1) https://example.com/?q=<b>"'`,
	`&lt;b&gt; & ${document.title}`,
}

// TestPageOutlivesARegion is the demonstration: two people talk in two browsers, served by two
// regions. One region fails, another is isolated, both are repaired, with the buttons of the page.
// Nothing is missing or duplicated on either page, and the order is that of every region.
func TestPageOutlivesARegion(t *testing.T) {
	t.Parallel()
	first, second := chromium(t), chromium(t)
	s := serve(t, pageSettings(t))
	ada := person(t, first, s.url(0), "Ada Lovelace")
	bob := person(t, second, s.url(0), "Bob")
	room := meet(ada, bob, "Analytical Engine")
	bob.prefer("eu-west-1")

	said := 0
	talk := func(about string, n int) {
		for i := range n {
			ada.say(fmt.Sprintf("%s, says Ada, %d", about, i))
			bob.say(fmt.Sprintf("%s, says Bob, %d", about, i))
			said += 2
		}
	}
	heard := func() {
		for _, p := range []*tab{ada, bob} {
			p.until("all is said and nothing is on its way", fmt.Sprintf(
				`document.querySelectorAll('.conversation .message').length === %d && !document.querySelector('.fate')`, said))
		}
	}
	for i, line := range opening {
		[]*tab{ada, bob}[i%2].say(line)
		said++
		for _, p := range []*tab{ada, bob} {
			p.until("the other has answered", fmt.Sprintf(`document.querySelectorAll('.conversation .message').length === %d`, said))
		}
	}
	for _, p := range []*tab{ada, bob} {
		p.until("it is served over a socket", `document.querySelector('.status').title.includes('WebSocket')`)
	}
	bob.react("❤️")
	ada.until("the reaction has come", `document.querySelector('.reaction')`)

	ada.breaks("us-east-1", stateFailing)
	talk("While a region fails", 3)
	ada.until("another region serves ada", `!document.querySelector('.status').textContent.includes('us-east-1') && document.querySelector('.status').dataset.state === 'live'`)
	heard()
	ada.shot("failed-region-light")
	bob.breaks("eu-west-1", stateIsolated)
	talk("While one is cut off", 3)
	bob.shot("isolated-region-light")
	bob.breaks("eu-west-1", stateUp)
	ada.breaks("us-east-1", stateUp)
	talk("When all is well", 2)
	for _, line := range hostile {
		ada.say(line)
		said++
	}
	heard()
	ada.until("it is served over a socket again", `document.querySelector('.status').title.includes('WebSocket')`)

	want := texts(s.agree(room, "ada-lovelace", said))
	for _, p := range []*tab{ada, bob} {
		if diff := difference(p.said(), want); diff != "" {
			t.Errorf("on %s's page and in the log: %s", p.name, diff)
		}
		var title string
		p.eval(`document.title`, &title)
		if strings.Contains(title, "hacked") {
			t.Error("what somebody wrote was run")
		}
	}
	ada.looks()
}

var opening = []string{
	"Good morning! Have you read Menabrea’s paper on the Engine?",
	"Twice. The notes are longer than the paper, and better.",
	"Flatterer. Note G is the one I am proud of: it computes Bernoulli numbers, card by card.",
	"Could it do more than numbers?",
	"Supposing the relations of pitched sounds in harmony were susceptible of such expression, it might compose music of any degree of complexity. https://en.wikipedia.org/wiki/Note_G",
	"And if the machine in Turin burns down while it computes?",
	"Then the one in London goes on with all the cards. That is the whole idea. 🎶",
}

// meet makes a room on one page, which is opened on the other by its address.
func meet(host, guest *tab, name string) (room string) {
	host.click(`[title^="New room"]`)
	host.do(chromedp.SendKeys("#new-name", name, chromedp.ByQuery))
	host.click(`dialog form .primary`)
	host.until("the room is open", `location.hash.length > 20 && document.querySelector('.conversation h1').textContent.includes('`+name+`')`)
	host.eval(`location.hash.split('/').at(-1)`, &room)
	guest.eval(`location.hash = '#/rooms/`+room+`'`, nil)
	guest.until("the room is open", `document.querySelector('.conversation h1').textContent.includes('`+name+`')`)
	return room
}

// prefer chooses a region in the panel.
func (p *tab) prefer(region string) {
	p.t.Helper()
	p.eval(`(() => { const e = document.querySelector('#prefer'); e.value = '`+region+`'; e.dispatchEvent(new Event('change')); })()`, nil)
	p.until("the region serves", `document.querySelector('.status').textContent.includes('`+region+`')`)
}

// breaks breaks or repairs a region with the panel's buttons.
func (p *tab) breaks(region, state string) {
	p.t.Helper()
	button := "#act-" + region + "-" + state
	p.click(button)
	p.until("the region is "+state, `document.querySelector('`+button+`').disabled`)
}

// react puts an emoji on the last message but one.
func (p *tab) react(emoji string) {
	p.t.Helper()
	p.eval(`(() => { const all = document.querySelectorAll('.conversation .message'); all[all.length - 2].focus(); })()`, nil)
	p.click(`.conversation .tools [aria-label="React with ` + emoji + `"]`)
	p.until("the reaction shows", `document.querySelector('.reaction[aria-pressed="true"]')`)
}

// looks takes pictures of the page as it looks to different people.
func (p *tab) looks() {
	scheme := func(value string) chromedp.Action {
		return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}})
	}
	p.do(scheme("light"))
	p.shot("light")
	p.do(scheme("dark"))
	p.shot("dark")
	p.do(scheme("light"), chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	p.click(`.side [aria-label="Close"]`)
	p.shot("phone")
	p.click(`.conversation [aria-label="Rooms"]`)
	p.shot("phone-rooms")
	p.do(scheme("dark"))
	p.shot("phone-rooms-dark")
	p.eval(`document.querySelector('.veil').click()`, nil)
	p.click("#regions-button")
	p.shot("phone-regions-dark")
	p.do(scheme("light"), chromedp.EmulateViewport(1440, 900))
}

// texts returns the texts of messages as a region tells them.
func texts(history []string) []string {
	out := make([]string, len(history))
	for i, line := range history {
		var m struct{ Text string }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			panic(err)
		}
		out[i] = m.Text
	}
	return out
}
