package main

import (
	"context"
	"fmt"
	"slices"
)

// rootKey is the name under which the id of the key that wraps users' keys is kept.
const rootKey = "key of users"

// noted is an answer of the aws command in text, where it has one.
func noted(text string) string {
	if text == "None" {
		return ""
	}
	return text
}

// lookForKey finds out what is there in a region of the key that wraps users' keys.
func (st state) lookForKey(ctx context.Context, s settings, ask aws, region string, r *regionState) error {
	if st.keyID == "" {
		return nil
	}
	var err error
	if r.key, err = answer(ask(ctx, askKey(st.keyID, region)...))(noKey); err != nil || r.stack == "" {
		return err
	}
	from, err := answer(ask(ctx, askKeyFrom(s.regionStack(), region)...))(noStack)
	r.keyFrom = noted(from)
	return err
}

// keyFrom is the region of whose key a region's stack makes a replica, "" if it makes none: the log's
// stack made the key, or a replica was left there from before.
func (st state) keyFrom(region string) string {
	r := st.regions[region]
	if region == st.home || r.key != "" && r.keyFrom == "" {
		return ""
	}
	return st.home
}

// refuseRootKey says why the key that wraps users' keys, as it is in a region, stands in the way:
// nobody can read a message there.
func (st state) refuseRootKey(region string) error {
	state := st.regions[region].key
	if state == "" || slices.Contains([]string{"Enabled", "Creating", "Updating"}, state) {
		return nil
	}
	on := []string{"--region", region, "--key-id", st.keyID}
	text := fmt.Sprintf("%s: the key that wraps users' keys is not in use (%s), so no message can be read there. Use it again, and run this again:", region, state)
	if state == "PendingDeletion" || state == "PendingReplicaDeletion" {
		text += "\n  " + line(append([]string{"kms", "cancel-key-deletion"}, on...))
	}
	return fmt.Errorf("%s\n  %s", text, line(append([]string{"kms", "enable-key"}, on...)))
}
