package dynamoconns

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events/dynamolocal/dynamotest"
	"parley/events/goldentest"
	"parley/functions/live"
)

// Items of connections and of who listens to what are what they always were, and those that were
// stored are read as they were.
func TestGoldenItems(t *testing.T) {
	at := time.Date(2025, time.March, 9, 7, 30, 15, 123456789, time.UTC)
	full := live.Connection{
		ID: "conn-1=", User: "ada", Scopes: []string{"openid", "operator"}, Expires: at.Add(time.Hour), Opened: at, Seen: at.Add(time.Minute), All: true, Revision: 7,
	}
	bare := live.Connection{ID: "conn-2=", Scopes: []string{}, Opened: at, Seen: at}
	expires := number(int64(1741512615))
	entry := userKey("ada", full.ID)
	entry[attrExpires] = expires
	rooms := roomsKey(full.ID)
	rooms[attrRooms], rooms[attrExpires] = set([]string{"01JNWWZHTR19R62WKCCNWGT3G0"}), expires
	today := []dynamotest.Item{
		connItem(full, expires), connItem(bare, expires), listenerItem("01JNWWZHTR19R62WKCCNWGT3G0", full, expires), entry, rooms,
	}
	folder := goldentest.Open(t, "items")
	golden := goldentest.ReadLines[dynamotest.Item](t, folder.Check("items.scopes.jsonl", goldentest.Lines(t, today...)))

	for i, want := range []live.Connection{full, bare} {
		got, err := connOf(want.ID, golden[i])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("a golden connection is read differently (-want +got):\n%s", diff)
		}
	}
	// A connection of the release that stored its token gives its user, and no scope.
	before := goldentest.ReadLines[dynamotest.Item](t, folder.Read("items.jsonl", nil))
	old, err := connOf(full.ID, before[0])
	if err != nil {
		t.Fatal(err)
	}
	full.Scopes = []string{}
	if diff := cmp.Diff(full, old); diff != "" {
		t.Errorf("a connection with a token is read differently (-want +got):\n%s", diff)
	}
	got, err := listenerOf(golden[2])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(live.Listener{Conn: full.ID, User: full.User, Expires: full.Expires}, got); diff != "" {
		t.Errorf("the golden listener is read differently (-want +got):\n%s", diff)
	}
}
