package operate

import (
	"strings"
	"time"

	"parley/events"
)

// filter says which events a replay is about.
type filter struct {
	stream      events.Stream // "": all
	from, until events.ID     // from <= id < until; zero: no bound
	typ         string        // "": all
	wild        bool          // all types that begin with typ
}

func filterOf(p Params) (f filter, err error) {
	if p.Room != "" {
		if f.stream, err = parseStream("room/" + p.Room); err != nil {
			return f, events.Invalid("room", "must be the id of a room")
		}
	}
	if p.From != "" {
		if f.from, err = parseTime("from", p.From, firstID); err != nil {
			return f, err
		}
	}
	if p.Until != "" {
		if f.until, err = parseTime("until", p.Until, firstID); err != nil {
			return f, err
		}
		if f.until.Compare(f.from) <= 0 {
			return f, events.Invalid("until", "must lie behind from")
		}
	}
	f.typ, f.wild = strings.CutSuffix(p.Type, "*")
	if p.Type == "" {
		return f, nil
	}
	for _, known := range events.Types() {
		if known == f.typ || f.wild && strings.HasPrefix(known, f.typ) {
			return f, nil
		}
	}
	return f, events.Invalid("type", "must be an event type such as message.posted, or a beginning such as message.*")
}

// firstID is the least id that carries a time.
func firstID(at time.Time) events.ID {
	return events.FollowingID(events.LastID(at.Add(-time.Millisecond)))
}

func (f filter) wants(e events.Event) bool {
	kind, _ := e.Stream.Split()
	return (kind == events.KindRoom || kind == events.KindUser) &&
		e.ID.Compare(f.from) >= 0 && (f.until == events.ID{} || e.ID.Compare(f.until) < 0) &&
		(f.typ == "" && !f.wild || e.Type == f.typ || f.wild && strings.HasPrefix(e.Type, f.typ))
}
