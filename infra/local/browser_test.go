package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	keyboard "github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// screenshotsIn names the variable that says where screenshots go; without it they are artifacts
// of the test.
const screenshotsIn = "PARLEY_SCREENSHOTS"

// chromium starts a browser, or skips the test with the reason why there is none.
func chromium(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: a browser takes a while")
	}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium; on Debian: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("no-first-run", true),
		chromedp.WindowSize(1440, 900), chromedp.WSURLReadTimeout(time.Minute))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, quit := chromedp.NewContext(allocator, chromedp.WithErrorf(func(format string, args ...any) {
		if !strings.HasPrefix(format, "unhandled node event") { // events newer than chromedp
			log.Printf(format, args...)
		}
	}))
	t.Cleanup(func() {
		quit()
		cancel()
		chromedp.FromContext(ctx).Allocator.Wait()
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Skipf("Chromium does not start: %v", err)
	}
	return ctx
}

// tab is one person's page, in a browser of its own.
type tab struct {
	t    *testing.T
	ctx  context.Context
	name string
}

// person opens the page for somebody, who signs in.
func person(t *testing.T, browser context.Context, url, name string) *tab {
	t.Helper()
	p := &tab{t, browser, name}
	chromedp.ListenTarget(browser, func(event any) { p.complain(event) })
	p.do(emulation.SetFocusEmulationEnabled(true), chromedp.EmulateViewport(1440, 900), chromedp.Navigate(url))
	p.do(chromedp.SendKeys("#name", name+kb.Enter, chromedp.ByQuery))
	p.until("a region serves", `document.querySelector('.status')?.dataset.state === 'live'`)
	return p
}

// complain fails the test for what the browser holds against the page: an exception, or
// something that the content security policy forbids.
func (p *tab) complain(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.t.Errorf("%s: %s", p.name, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError {
			text, _ := json.Marshal(e.Args)
			p.t.Errorf("%s: console: %s", p.name, text)
		}
	}
}

// do carries out actions, which must not take long.
func (p *tab) do(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	for _, action := range actions {
		err := chromedp.Run(ctx, action)
		for tries := 1; err != nil && strings.Contains(err.Error(), "Could not find node") && tries < 5; tries++ {
			err = chromedp.Run(ctx, action) // the page drew it anew between being found and being used
		}
		if err != nil {
			p.shot("failed-" + p.name)
			p.t.Fatalf("%s: %v", p.name, err)
		}
	}
}

// until waits for a condition in the page.
func (p *tab) until(what, condition string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 40*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, chromedp.Poll(condition, nil, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0))); err != nil {
		p.shot("failed-" + p.name)
		p.t.Fatalf("%s waited in vain until %s: %v", p.name, what, err)
	}
}

func (p *tab) eval(expression string, out any) {
	p.t.Helper()
	p.do(chromedp.Evaluate(expression, out))
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.WaitVisible(selector, chromedp.ByQuery), chromedp.Click(selector, chromedp.ByQuery))
}

// pressOn presses a key on the n-th message until a condition holds: while a page loads, what has
// the focus may be drawn anew.
func (p *tab) pressOn(n int, key, condition string) {
	p.t.Helper()
	done := false
	for tries := 0; !done && tries < 20; tries++ {
		p.eval(fmt.Sprintf(`document.querySelectorAll('.conversation .message')[%d].focus()`, n), nil)
		p.do(press(key))
		ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
		_ = chromedp.Run(ctx, chromedp.Poll(condition, &done, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(0))) // or again
		cancel()
	}
	if !done {
		p.shot("failed-" + p.name)
		p.t.Fatalf("%s presses %s in vain: never %s", p.name, key, condition)
	}
}

const writeHere = ".conversation .composer textarea"

// say writes a message and sends it with Enter, as people do.
func (p *tab) say(text string) {
	p.t.Helper()
	p.do(chromedp.SendKeys(writeHere, text, chromedp.ByQuery), press("Enter"))
}

// pressed are those that tests press, with their codes.
var pressed = map[string]int64{"Enter": 13, "Escape": 27, "ArrowUp": 38, "Delete": 46, "r": 82, "t": 84}

// press presses a key as a keyboard does: what chromedp types by itself is a key and a character,
// and a page can only prevent the first.
func press(key string) chromedp.Action {
	text := key
	switch {
	case key == "Enter":
		text = "\r"
	case len(key) > 1:
		text = ""
	}
	event := func(kind keyboard.KeyType) *keyboard.DispatchKeyEventParams {
		return keyboard.DispatchKeyEvent(kind).WithKey(key).WithWindowsVirtualKeyCode(pressed[key])
	}
	return chromedp.Tasks{event(keyboard.KeyDown).WithText(text), event(keyboard.KeyUp)}
}

// said returns the texts on the page in their order.
func (p *tab) said() (texts []string) {
	p.t.Helper()
	p.eval(`[...document.querySelectorAll('.conversation .message .text')].map((e) => e.textContent)`, &texts)
	return texts
}

// shot keeps a picture of the page.
func (p *tab) shot(name string) {
	var picture []byte
	_ = chromedp.Run(p.ctx, chromedp.Poll(`document.getAnimations().every((a) => a.effect.getTiming().iterations === Infinity)`, nil))
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, chromedp.CaptureScreenshot(&picture)); err != nil {
		p.t.Logf("no screenshot %s: %v", name, err)
		return
	}
	dir := os.Getenv(screenshotsIn)
	if dir == "" {
		dir = p.t.ArtifactDir()
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		p.t.Error(err)
	}
}

// pageSettings are those of a demonstration: regions with real names.
func pageSettings(t *testing.T) settings {
	set, err := parse([]string{"-addr", "127.0.0.1:0", "-data", t.TempDir(), "-lag", "40ms", "-rate", "0"})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// difference says in which line two lists differ first.
func difference(a, b []string) string {
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("line %d of %d and %d: %q and %q", i, len(a), len(b), x, y)
		}
	}
	return ""
}
