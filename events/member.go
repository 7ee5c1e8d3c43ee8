package events

import "fmt"

// Role is what a member may do in a room.
type Role string

// The roles. Each role may do what those below it may.
const (
	RoleOwner  Role = "owner"  // gives roles, archives the room
	RoleAdmin  Role = "admin"  // adds, removes and bans members, deletes messages, changes the room
	RoleMember Role = "member" // reads and writes
)

// Validate says which roles there are.
func (r Role) Validate() error {
	if r.Rank() == 0 {
		return Invalid("role", fmt.Sprintf("must be %s, %s or %s", RoleOwner, RoleAdmin, RoleMember))
	}
	return nil
}

// Rank orders the roles: the greater may do more; 0 is no role.
func (r Role) Rank() int {
	switch r {
	case RoleOwner:
		return 3
	case RoleAdmin:
		return 2
	case RoleMember:
		return 1
	default:
		return 0
	}
}

// MemberJoined makes User, who joined or was added by the actor, a member with a role.
type MemberJoined struct {
	User string `json:"user"`
	Role Role   `json:"role"`
}

// Validate implements [Payload].
func (p MemberJoined) Validate() error {
	if err := ValidateUser("user", p.User); err != nil {
		return err
	}
	return p.Role.Validate()
}

func (p MemberJoined) member() string { return p.User }

// MemberInvited lets User join, also if the room is private. It does not make User a member: that is
// the MemberJoined with which User accepts. What ends a membership also ends an invitation: a
// MemberLeft declines it, or withdraws it.
type MemberInvited struct {
	User string `json:"user"`
}

// Validate implements [Payload].
func (p MemberInvited) Validate() error { return ValidateUser("user", p.User) }

func (p MemberInvited) member() string { return p.User }

// MemberLeft ends the membership of User, who left or was removed by the actor.
type MemberLeft struct {
	User string `json:"user"`
}

// Validate implements [Payload].
func (p MemberLeft) Validate() error { return ValidateUser("user", p.User) }

func (p MemberLeft) member() string { return p.User }

// MemberRoleChanged gives User another role.
type MemberRoleChanged struct {
	User string `json:"user"`
	Role Role   `json:"role"`
}

// Validate implements [Payload].
func (p MemberRoleChanged) Validate() error {
	if err := ValidateUser("user", p.User); err != nil {
		return err
	}
	return p.Role.Validate()
}

func (p MemberRoleChanged) member() string { return p.User }

// MemberBanned ends the membership of User, who cannot join again until unbanned.
type MemberBanned struct {
	User string `json:"user"`
}

// Validate implements [Payload].
func (p MemberBanned) Validate() error { return ValidateUser("user", p.User) }

func (p MemberBanned) member() string { return p.User }

// MemberUnbanned lets User join again; it does not make User a member.
type MemberUnbanned struct {
	User string `json:"user"`
}

// Validate implements [Payload].
func (p MemberUnbanned) Validate() error { return ValidateUser("user", p.User) }

func (p MemberUnbanned) member() string { return p.User }
