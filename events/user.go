package events

import (
	"fmt"
	"unicode/utf8"
)

// RoomRead is a user's read marker: she has read a room up to and including a message. It
// stands in the user's own stream: it concerns nobody else, and a crowded room must not pay for
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

// UserProfileSet is what a user tells the others about herself. The latest wins as a whole.
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

// UserErased says that a user's personal content is gone for good: in each region that hears of it
// her data keys are destroyed, and with them all that she ever wrote. It cannot be undone.
type UserErased struct {
	By string `json:"by"` // the operator who did it
}

// Validate implements [Payload].
func (p UserErased) Validate() error { return ValidateUser("by", p.By) }
