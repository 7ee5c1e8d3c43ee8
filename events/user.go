package events

import "fmt"

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
	About Content `json:"about,omitempty"`
}

// Validate implements [Payload].
func (p UserProfileSet) Validate() error {
	if err := ValidateName("name", p.Name.Open()); err != nil {
		return err
	}
	if !line(p.About.Open(), MaxAboutChars) {
		return Invalid("about", fmt.Sprintf("must have at most %d characters, on one line", MaxAboutChars))
	}
	return nil
}
