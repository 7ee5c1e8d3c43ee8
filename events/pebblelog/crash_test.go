package pebblelog

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events"
)

// childDir names the variable that makes the test binary append to a log until it is killed.
const childDir = "PEBBLELOG_TEST_DIR"

const childWriters = 16

// appendUntilKilled prints the stream and id of every event that was acknowledged.
func appendUntilKilled(dir string) {
	l, err := Open(dir, Options{})
	if err != nil {
		fmt.Println("!", err)
		os.Exit(1)
	}
	var group sync.WaitGroup
	for range childWriters {
		group.Go(func() {
			room := events.RoomStream(newID(mustNot{}).String())
			for {
				e := newMessage(mustNot{}, room)
				if _, _, err := l.Append(context.Background(), e); err != nil {
					fmt.Println("!", err)
					os.Exit(1)
				}
				fmt.Println(e.Stream, e.ID)
			}
		})
	}
	group.Wait()
}

// mustNot stands in for a test in the child.
type mustNot struct{}

func (mustNot) Helper()                           {}
func (mustNot) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// TestKill kills a process that appends, again and again on one directory: every acknowledged
// event is there, once, and the tail agrees with the streams.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	head := uint64(0)
	for range 3 {
		acknowledged = append(acknowledged, runAndKill(t, dir, 2000)...)

		l := mustOpen(t, dir, Options{})
		found := map[string]int{}
		for _, r := range follow(t, l, 1000) {
			found[fmt.Sprint(r.Event.Stream, " ", r.Event.ID)]++
		}
		for _, event := range acknowledged {
			if found[event] != 1 {
				t.Fatalf("an acknowledged event arrived %d times", found[event])
			}
		}
		if l.Head() < head {
			t.Errorf("head went back from %d to %d", head, l.Head())
		}
		head = l.Head()
		checkTail(t, l)
		mustClose(t, l)
	}
	t.Logf("%d acknowledged, %d stored", len(acknowledged), head)
}

// runAndKill returns what a child has acknowledged until it was killed, at the given number.
func runAndKill(t *testing.T, dir string, killAt int) []string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // what it printed before it was killed has been read; a cut line does not count
			break
		}
		if strings.HasPrefix(line, "!") {
			t.Fatalf("child: %s", line)
		}
		if acknowledged = append(acknowledged, strings.TrimSpace(line)); len(acknowledged) == killAt {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil {
		t.Fatal("the child was not killed")
	}
	if len(acknowledged) < killAt {
		t.Fatalf("the child ended after %d events", len(acknowledged))
	}
	return acknowledged
}

// TestPowerLoss pulls the plug under load: of what was not synced only a random part is left.
func TestPowerLoss(t *testing.T) {
	files := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		l := mustOpen(t, "log", Options{FS: files})
		var mu sync.Mutex
		var acknowledged []events.Event
		stop := make(chan struct{})
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				room := newRoom(t)
				for {
					select {
					case <-stop:
						return
					default:
					}
					e := newMessage(t, room)
					mustAppend(t, l, e)
					mu.Lock()
					acknowledged = append(acknowledged, e)
					mu.Unlock()
				}
			})
		}
		for until := l.Head() + uint64(1+rng.IntN(100)); l.Head() < until; {
			if _, err := l.Next(t.Context(), formatPosition(l.Head()), 1, true); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		safe := append([]events.Event(nil), acknowledged...)
		shown := l.Head()
		mu.Unlock()
		files = files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
		close(stop)
		group.Wait()
		mustClose(t, l)

		l = mustOpen(t, "log", Options{FS: files})
		for _, e := range safe {
			if _, err := events.Get(t.Context(), l, e.Stream, e.ID); err != nil {
				t.Fatalf("round %d: an acknowledged event is gone: %v", round, err)
			}
		}
		if l.Head() < shown {
			t.Fatalf("round %d: head was %d and is %d", round, shown, l.Head())
		}
		checkTail(t, l)
		mustClose(t, l)
	}
}
