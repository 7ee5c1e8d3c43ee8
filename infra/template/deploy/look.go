package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// state is what is there before anything is done.
type state struct {
	account  string
	home     string // the region of the log's stack; where there is none yet, the first of -regions
	global   string // the status of the log's stack, "" if there is none
	replicas []string
	strong   bool
	keyID    string // of the key that wraps users' keys, "" if there is none yet
	left     string // a table that no stack was found for
	leftIn   string // the region it is in
	regions  map[string]regionState
	zoneName string // of -zone, "" without one
	key      keyState
	code     code
}

// regionState is what is there in a region.
type regionState struct {
	stack   string // the status of the region's stack, "" if there is none
	views   bool   // the table of views
	noTopic bool   // the topic for alarms is missing
	logRole bool   // API Gateway has a role with which it can log what sockets do
	bucket  bool   // the bucket for code
	code    bool   // this code is in it
	key     string // the state of the key that wraps users' keys, "" if there is none
	keyFrom string // where from the region's stack made that; "" if it did not
}

// look finds out what is there.
func look(ctx context.Context, s settings, ask aws) (state, error) {
	st := state{home: s.regions[0], regions: map[string]regionState{}}
	ask = inRegions(ask)
	var err error
	if st.account, err = identify(ctx, ask, st.home); err != nil {
		return st, err
	}
	if err := st.lookForLog(ctx, s, ask); err != nil {
		return st, err
	}
	deleted, err := answer(ask(ctx, askSecret(s.cursorSecret(), st.home)...))(noSecret)
	if err != nil {
		return st, err
	}
	st.key = readKeyState(deleted)
	for _, region := range s.touched() {
		r, err := lookAtRegion(ctx, s, ask, st.account, region)
		if err == nil {
			err = st.lookForKey(ctx, s, ask, region, &r)
		}
		if err != nil {
			return st, err
		}
		st.regions[region] = r
	}
	if s.zone != "" {
		st.zoneName, err = answer(ask(ctx, askZone(s.zone, st.home)...))(noZone)
	}
	return st, err
}

// touched are the regions that something is done in.
func (s settings) touched() []string {
	if s.remove == "" {
		return s.regions
	}
	return append(slices.Clone(s.regions), s.remove)
}

func identify(ctx context.Context, ask aws, region string) (string, error) {
	text, err := ask(ctx, askIdentity(region)...)
	if says(err, "Unable to locate credentials", "ExpiredToken", "InvalidClientTokenId", "expired", "credentials") {
		return "", fmt.Errorf("the aws command has no valid credentials: run `aws configure` or `aws sso login`, or set AWS_PROFILE; or try -dry-run, which needs none (%w)", err)
	}
	if err != nil {
		return "", err
	}
	var who struct{ Account string }
	if err := json.Unmarshal([]byte(text), &who); err != nil || who.Account == "" {
		return "", fmt.Errorf("`aws sts get-caller-identity` does not tell the account: %q", text)
	}
	return who.Account, nil
}

// lookForLog finds the log's stack in whatever region it is, and its table's replicas.
func (st *state) lookForLog(ctx context.Context, s settings, ask aws) (err error) {
	for _, region := range s.touched() {
		status, err := answer(ask(ctx, askStack(s.globalStack(), region)...))(noStack)
		if err != nil {
			return err
		}
		if status = settled(status); status != "" {
			st.home, st.global = region, status
			break
		}
	}
	regions := []string{st.home}
	if st.global == "" {
		regions = s.touched()
	}
	for _, region := range regions {
		text, err := answer(ask(ctx, askTable(s.eventsTable(), region)...))(noTable)
		switch {
		case err != nil:
			return err
		case st.global == "":
			if err := st.lookForLeft(ctx, s, ask, region, text); err != nil || st.left != "" {
				return err
			}
		case text != "":
			if err := st.readTable(text); err != nil {
				return err
			}
		}
	}
	if st.global == "" {
		return nil
	}
	id, err := ask(ctx, askKeyID(s.globalStack(), st.home)...)
	st.keyID = noted(strings.TrimSpace(id))
	return err
}

// lookForLeft finds a table that is there without the log's stack.
func (st *state) lookForLeft(ctx context.Context, s settings, ask aws, region, events string) error {
	if events != "" {
		st.left, st.leftIn = s.eventsTable(), region
		return nil
	}
	keys, err := answer(ask(ctx, askTable(s.keysTable(), region)...))(noTable)
	if keys != "" {
		st.left, st.leftIn = s.keysTable(), region
	}
	return err
}

func (st *state) readTable(text string) error {
	var table struct {
		MultiRegionConsistency string
		Replicas               []struct{ RegionName string }
	}
	if err := json.Unmarshal([]byte(text), &table); err != nil {
		return fmt.Errorf("read the description of the event table: %w", err)
	}
	st.strong = table.MultiRegionConsistency == "STRONG"
	st.replicas = []string{st.home}
	for _, r := range table.Replicas {
		if !slices.Contains(st.replicas, r.RegionName) {
			st.replicas = append(st.replicas, r.RegionName)
		}
	}
	return nil
}

// settled takes a stack that is under review for none: a first try that was broken off before
// anything was made.
func settled(status string) string {
	if status == "REVIEW_IN_PROGRESS" {
		return ""
	}
	return status
}

func lookAtRegion(ctx context.Context, s settings, ask aws, account, region string) (r regionState, err error) {
	if r.stack, err = answer(ask(ctx, askStack(s.regionStack(), region)...))(noStack); err != nil {
		return r, err
	}
	r.stack = settled(r.stack)
	views, err := answer(ask(ctx, askTable(s.viewsTable(), region)...))(noTable)
	if err != nil {
		return r, err
	}
	r.views = views != ""
	if arn := s.topicARN(account, region); arn != "" {
		_, err := ask(ctx, askTopic(arn, region)...)
		if r.noTopic = says(err, noTopic); err != nil && !r.noTopic {
			return r, err
		}
	}
	role, err := ask(ctx, askLogRole(region)...)
	if err != nil {
		return r, err
	}
	r.logRole = strings.HasPrefix(strings.TrimSpace(role), "arn:")
	_, err = ask(ctx, askBucket(account, region)...)
	r.bucket = err == nil
	if says(err, noObject) {
		err = nil
	} else if err != nil {
		err = fmt.Errorf("the bucket %s cannot be used: %w", codeBucket(account, region), err)
	}
	return r, err
}

// lookForCode finds out where the code that was built is already.
func lookForCode(ctx context.Context, s settings, ask aws, st *state) error {
	for _, region := range s.regions {
		r := st.regions[region]
		if !r.bucket {
			continue
		}
		_, err := ask(ctx, askCode(st.account, region, st.code.key)...)
		if err != nil && !says(err, noObject) {
			return err
		}
		r.code = err == nil
		st.regions[region] = r
	}
	return nil
}

// answer takes what the aws command answered and returns a function that makes "" of the error
// that says that there is no such thing.
func answer(text string, err error) func(none string) (string, error) {
	return func(none string) (string, error) {
		var said *saidError
		if errors.As(err, &said) && strings.Contains(said.said, none) {
			return "", nil
		}
		return strings.TrimSpace(text), err
	}
}
