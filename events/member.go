package events

import "fmt"

// Role is what a member may do in a room.
type Role string

// The roles, each of which may do what the ones below it may.
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

// MemberJoined makes User a member with a role: by herself, or added by the actor.
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

// MemberLeft ends the membership of User: by herself, or removed by the actor.
type MemberLeft struct {
	User string `json:"user"`
}

// Validate implements [Payload].
func (p MemberLeft) Validate() error { return ValidateUser("user", p.User) }

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

// MemberBanned ends the membership of User and keeps her out until she is unbanned.
type MemberBanned struct {
	User string `json:"user"`
}

// Validate implements [Payload].
func (p MemberBanned) Validate() error { return ValidateUser("user", p.User) }

// MemberUnbanned lets User join again; it does not make her a member.
type MemberUnbanned struct {
	User string `json:"user"`
}

// Validate implements [Payload].
func (p MemberUnbanned) Validate() error { return ValidateUser("user", p.User) }
