package command

import (
	"context"
	"net/http"

	"parley/events"
	"parley/functions/api"
)

func (h *commands) registerUsers(a *api.API) {
	api.Command(a, api.Operation{
		ID: "setProfile", Method: "PUT", Path: "/v1/users/{user}", Tag: "users",
		Summary: "Set your profile",
		Detail:  "The latest wins as a whole.",
	}, h.setProfile)
}

type profileInput struct {
	Keyed
	User string `path:"user"`
	Body newProfile
}

type newProfile struct {
	Name  string `json:"name" doc:"1 to 100 characters, on one line." minLength:"1" maxLength:"100"`
	About string `json:"about,omitempty" doc:"At most 500 characters, on one line." maxLength:"500"`
}

func (h *commands) setProfile(ctx context.Context, in *profileInput) (*output[api.Accepted], error) {
	user := api.CallerOf(ctx).User
	if in.User != user {
		return nil, api.Fail(http.StatusForbidden, "not_you", "only the user herself may set her profile")
	}
	done, err := h.do(ctx, command{
		stream: events.UserStream(user), actor: user, id: in.Key, idField: keyField,
		payload: events.UserProfileSet{Name: events.Plain(in.Body.Name), About: events.Plain(in.Body.About)},
		allow:   allowed,
	})
	if err != nil {
		return nil, err
	}
	return ok(done.accepted()), nil
}
