package functions_test

import (
	"strings"
	"testing"

	"parley/events"
)

// A thread has one level: a reply to a reply, of whatever depth, by POST, PUT or under a key, is one to the root, in
// every region, and the same command again is a repeat. Threads in threads that a former release made stay readable.
func TestThreadsHaveOneLevel(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada, bob := s.as("ada"), s.as("bob")
	root := s.message.String()
	reply := ada.post(s.room+"/messages", `{"text":"1","thread":"`+root+`"}`).want(201)
	if reply.text("thread") != root {
		t.Errorf("a reply is in the thread %s", reply.text("thread"))
	}
	body := `{"text":"2","thread":"` + reply.id().String() + `","reply_to":"` + reply.id().String() + `"}`
	second := bob.post(s.room+"/messages", body).want(201)
	if second.text("thread") != root || second.text("reply_to") != reply.id().String() {
		t.Errorf("a reply to a reply is %s", second.body)
	}
	id := bob.mint(second.id())
	for _, status := range []int{201, 200} {
		if got := bob.put(s.room+"/messages/"+id.String(), `{"text":"3","thread":"`+second.id().String()+`"}`).want(status); got.text("thread") != root {
			t.Errorf("a reply to that is %s", got.body)
		}
	}
	key := ada.mint(id)
	for _, status := range []int{201, 200} {
		ada.key(key).post(s.room+"/messages", `{"text":"4","thread":"`+id.String()+`"}`).want(status)
	}
	s.Sync()

	// As former releases made them: replies to replies, two levels deep.
	raw := func(user string, after events.ID, thread events.ID) events.ID {
		t.Helper()
		at := s.mint(user, after)
		e, err := events.New(at, events.RoomStream(strings.TrimPrefix(s.room, "/v1/rooms/")), user, "eu", events.MessagePosted{Text: events.Plain("nested"), Thread: &thread})
		must(t, err)
		_, _, err = s.store.Append(t.Context(), e)
		must(t, err)
		return at
	}
	nested := raw("bob", key, id)
	deeper := raw("ada", nested, nested)
	s.Sync()
	if got := ada.get(s.room + "/messages/" + id.String() + "/replies").texts(); got != "nested" {
		t.Errorf("the thread in the thread is %q", got)
	}
	ada.post(s.room+"/messages", `{"text":"5","thread":"`+deeper.String()+`"}`).want(201)
	s.Sync()
	if got := ada.get(s.about("/replies")).texts(); got != "1 2 3 4 5" {
		t.Errorf("the thread is %q", got)
	}
	if got := ada.get(s.about("")).want(200).value("replies"); got != 5.0 {
		t.Errorf("the root has %v replies", got)
	}
	there := s.world.region(t, "us")
	replicate(s.region, there)
	if got := there.as("bob").get(s.about("/replies")).texts(); got != "1 2 3 4 5" {
		t.Errorf("in the other region the thread is %q", got)
	}
	there.as("bob").put(s.room+"/messages/"+id.String(), `{"text":"3","thread":"`+second.id().String()+`"}`).want(200)

	other := strings.TrimPrefix(ada.room(`{"name":"Other"}`), "/v1/rooms/")
	ada.post("/v1/rooms/"+other+"/messages", `{"text":"x","thread":"`+root+`"}`).refused(404, "message_not_found")
	ada.post(s.room+"/messages", `{"text":"x","thread":"`+s.mint("bob").String()+`"}`).refused(404, "message_not_found")
}
