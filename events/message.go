package events

// MessagePosted is a message. Its event's id is the message's id, the event's actor its author
// and the time in the id the time it was sent.
type MessagePosted struct {
	Text    Content `json:"text"`
	ReplyTo *ID     `json:"reply_to,omitempty"` // the message it answers
	Thread  *ID     `json:"thread,omitempty"`   // the message whose thread it is part of
}

// Validate implements [Payload].
func (p MessagePosted) Validate() error {
	if err := validateText(p.Text); err != nil {
		return err
	}
	if p.ReplyTo != nil && *p.ReplyTo == (ID{}) {
		return Invalid("reply_to", "must not be the zero id")
	}
	if p.Thread != nil && *p.Thread == (ID{}) {
		return Invalid("thread", "must not be the zero id")
	}
	return nil
}

func (p MessagePosted) with(f func(string, Content) (Content, error)) (_ Payload, err error) {
	p.Text, err = f("text", p.Text)
	return p, err
}

// target is the root of the thread that the message is a reply in.
func (p MessagePosted) target() ID {
	if p.Thread == nil {
		return ID{}
	}
	return *p.Thread
}

func validateText(c Content) error { return c.validate("text", MaxTextBytes, ValidateText) }

// MessageEdited replaces the text of a message. Only its author's edits count; the latest wins.
type MessageEdited struct {
	Message ID      `json:"message"`
	Text    Content `json:"text"`
}

// Validate implements [Payload].
func (p MessageEdited) Validate() error {
	if err := validateTarget(p.Message); err != nil {
		return err
	}
	return validateText(p.Text)
}

func (p MessageEdited) target() ID { return p.Message }

func (p MessageEdited) with(f func(string, Content) (Content, error)) (_ Payload, err error) {
	p.Text, err = f("text", p.Text)
	return p, err
}

// MessageDeleted takes a message back for good. It counts if its actor is the author, or if it
// was a moderator's act.
type MessageDeleted struct {
	Message   ID   `json:"message"`
	Moderated bool `json:"moderated,omitempty"` // by an admin of the room, not by the author
}

// Validate implements [Payload].
func (p MessageDeleted) Validate() error { return validateTarget(p.Message) }

func (p MessageDeleted) target() ID { return p.Message }

// MessagePinned marks a message as worth keeping in sight. Pinned or not: the latest wins.
type MessagePinned struct {
	Message ID `json:"message"`
}

// Validate implements [Payload].
func (p MessagePinned) Validate() error { return validateTarget(p.Message) }

func (p MessagePinned) target() ID { return p.Message }

// MessageUnpinned undoes [MessagePinned].
type MessageUnpinned struct {
	Message ID `json:"message"`
}

// Validate implements [Payload].
func (p MessageUnpinned) Validate() error { return validateTarget(p.Message) }

func (p MessageUnpinned) target() ID { return p.Message }

// ReactionAdded puts the actor's emoji on a message. For each user and emoji, in the form of
// [NormalizeEmoji], the latest of added and removed wins.
type ReactionAdded struct {
	Message ID     `json:"message"`
	Emoji   string `json:"emoji"`
}

// Validate implements [Payload].
func (p ReactionAdded) Validate() error {
	if err := validateTarget(p.Message); err != nil {
		return err
	}
	return ValidateEmoji("emoji", p.Emoji)
}

func (p ReactionAdded) target() ID { return p.Message }

func (p ReactionAdded) asked() Payload {
	p.Emoji = NormalizeEmoji(p.Emoji)
	return p
}

// ReactionRemoved takes the actor's emoji off a message.
type ReactionRemoved struct {
	Message ID     `json:"message"`
	Emoji   string `json:"emoji"`
}

// Validate implements [Payload].
func (p ReactionRemoved) Validate() error {
	if err := validateTarget(p.Message); err != nil {
		return err
	}
	return ValidateEmoji("emoji", p.Emoji)
}

func (p ReactionRemoved) target() ID { return p.Message }

func (p ReactionRemoved) asked() Payload {
	p.Emoji = NormalizeEmoji(p.Emoji)
	return p
}

func validateTarget(message ID) error {
	if message == (ID{}) {
		return Invalid("message", "must not be the zero id")
	}
	return nil
}
