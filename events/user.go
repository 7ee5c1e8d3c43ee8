package events

import (
	"fmt"
	"unicode/utf8"
)

// RoomRead is a user's read marker: the user has read a room up to and including a message. It
// belongs to the user's own stream: it concerns no other user, and a large room must not pay for
// it. The greatest marker after the latest [RoomMarkedUnread] wins.
type RoomRead struct {
	Room string `json:"room"`
	UpTo ID     `json:"up_to"`

	// Seen is how many messages of the room, up to and including UpTo, had arrived in the region that
	// accepted the marker; imported ones are left out. What arrives later and sorts before UpTo is thus
	// known to be unread, in every region. SeenUnknown, which stands for all, if the region did not know, or a client
	// minted the id: then the event must follow from the command alone. Nil in events of a
	// release that did not count.
	Seen *int64 `json:"seen,omitempty"`
}

// SeenUnknown says in a [RoomRead] that it is not known how many messages had arrived.
const SeenUnknown = -1

// Validate implements [Payload].
func (p RoomRead) Validate() error {
	if err := ValidateRoomID("room", p.Room); err != nil {
		return err
	}
	if p.UpTo == (ID{}) {
		return Invalid("up_to", "must not be the zero id")
	}
	if p.Seen != nil && *p.Seen < SeenUnknown {
		return Invalid("seen", "must be a count, or -1")
	}
	return nil
}

func (p RoomRead) asked() Payload {
	p.Seen = nil
	return p
}

// RoomMarkedUnread takes a user's read marker back: the message From and those that sort after it are
// unread again. The latest wins, over read markers of less recent events too. It belongs to the user's own
// stream.
type RoomMarkedUnread struct {
	Room string `json:"room"`
	From ID     `json:"from"`
}

// Validate implements [Payload].
func (p RoomMarkedUnread) Validate() error {
	if err := ValidateRoomID("room", p.Room); err != nil {
		return err
	}
	if p.From == (ID{}) {
		return Invalid("from", "must not be the zero id")
	}
	return nil
}

// UserProfileSet sets the profile of a user. The latest wins as a whole.
type UserProfileSet struct {
	Name  Content `json:"name"`
	About Content `json:"about,omitzero"`
}

// Validate implements [Payload].
func (p UserProfileSet) Validate() error {
	if err := p.Name.validate("name", utf8.UTFMax*MaxNameChars, ValidateName); err != nil {
		return err
	}
	return p.About.validate("about", utf8.UTFMax*MaxAboutChars, validateAbout)
}

func validateAbout(field, about string) error {
	if !line(about, MaxAboutChars) {
		return Invalid(field, fmt.Sprintf("must have at most %d characters, on one line", MaxAboutChars))
	}
	return nil
}

func (p UserProfileSet) with(f func(string, Content) (Content, error)) (_ Payload, err error) {
	if p.Name, err = f("name", p.Name); err == nil && !p.About.IsZero() {
		p.About, err = f("about", p.About)
	}
	return p, err
}

// UserErased erases a user's personal content for good: each region that receives it destroys the
// data keys of the user, and with them everything the user wrote. It cannot be undone.
type UserErased struct {
	By string `json:"by"` // the operator who did it
}

// Validate implements [Payload].
func (p UserErased) Validate() error { return ValidateUser("by", p.By) }
