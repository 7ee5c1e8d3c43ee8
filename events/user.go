package events

import (
	"fmt"
	"unicode/utf8"
)

// RoomRead is a user's read marker: the user has read a room up to and including a message. It
// belongs to the user's own stream: it concerns no other user, and a large room must not pay for
// it. The greatest marker wins.
type RoomRead struct {
	Room string `json:"room"`
	UpTo ID     `json:"up_to"`
}

// Validate implements [Payload].
func (p RoomRead) Validate() error {
	if err := ValidateRoomID("room", p.Room); err != nil {
		return err
	}
	if p.UpTo == (ID{}) {
		return Invalid("up_to", "must not be the zero id")
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
