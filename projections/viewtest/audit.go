package viewtest

import (
	"fmt"
	"testing"

	"parley/events"
	"parley/projections"
)

// plant does every kind of harm to the views of a room, and returns how many views it did harm.
func plant(t *testing.T, v projections.Views, room events.Stream) (faults map[projections.Key]projections.Fault) {
	t.Helper()
	faults = map[projections.Key]projections.Fault{}
	page := query(t, v, "timeline/"+room.Name(), projections.Range{Limit: 6})
	members := query(t, v, "member/in/"+room.Name(), projections.Range{Limit: 6})
	beat := query(t, v, "beat", projections.Range{Limit: 1})
	altered := func(view projections.View, fault projections.Fault, body string) {
		view.Body = []byte(body)
		save(t, v, view)
		faults[view.Key] = fault
	}
	dropped := func(view projections.View) {
		remove(t, v, view)
		faults[view.Key] = projections.Missing
	}
	doubled := func(view projections.View, sort string) {
		view.Version, view.Key.Sort = 0, sort
		save(t, v, view)
		faults[view.Key] = projections.Extra
	}
	dropped(page[0])
	altered(page[1], projections.Differs, string(page[2].Body))
	altered(page[2], projections.Damaged, "{")
	altered(page[3], projections.Missing, "{}")
	doubled(page[4], "0000000000ZZZZZZZZZZZZZZZZ")
	dropped(members[0])
	altered(members[1], projections.Differs, `{"in":{"id":"00000000000000000000000001","v":true}}`)
	doubled(members[2], "nobody")
	doubled(beat[0], "us")
	return faults
}

func testAudit(t *testing.T, v projections.Views) {
	r := tell(t, v)
	if b := r.run(projections.NewAudit("clean", false)); b.Compared.Differ > 0 || b.Compared.Views == 0 {
		t.Fatalf("a clean system: %+v", b.Compared)
	}
	planted := plant(t, v, r.rooms[1])
	for round, heal := range []bool{false, true, false} {
		b := r.run(projections.NewAudit(fmt.Sprint("audit ", round), heal))
		if round == 2 {
			planted = nil
		}
		found := map[projections.Key]projections.Fault{}
		for _, f := range b.Compared.Findings {
			found[f.Key] = f.Fault
			if f.Healed != heal || f.Projection == "" || f.Stream.Validate() != nil {
				t.Errorf("finding %+v", f)
			}
			if f.Fault == projections.Differs && len(f.Fields) == 0 {
				t.Errorf("it is not said in what it differs: %+v", f)
			}
		}
		for key, fault := range planted {
			if found[key] != fault {
				t.Errorf("round %d: %v is %q, want %q", round, key, found[key], fault)
			}
		}
		if len(found) != len(planted) || int(b.Compared.Differ) != len(planted) {
			t.Errorf("round %d: %d found, want %d: %+v", round, len(found), len(planted), b.Compared.Findings)
		}
	}
	r.wantReads()
	if left := scan(t, v, 1000, "g2/", "g3/", "g4/", "g5/"); len(left) > 0 {
		t.Errorf("%d views are left of audits", len(left))
	}
}
