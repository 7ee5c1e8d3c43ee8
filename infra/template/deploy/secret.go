package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// secrets are what nobody may see, by the names under which steps kept them.
type secrets map[string]string

const overrides = "--parameter-overrides"

// parametersFile is the name in <work> of the file that parameters go into if a secret is among them.
const parametersFile = "parameters.json"

// give puts secrets in the place of their names. They go into a file that nobody else can read,
// for the arguments of a command anybody on the machine can; the function returned removes it.
func (k secrets) give(args []string, work string) (given []string, remove func(), err error) {
	full := filled(args, k)
	at := slices.Index(args, overrides)
	if at < 0 || slices.Equal(full, args) {
		return args, func() {}, nil
	}
	name := filepath.Join(work, parametersFile)
	remove = func() { _ = os.Remove(name) } // the folder goes, too
	text, err := json.Marshal(full[at+1:])
	if err == nil {
		err = os.WriteFile(name, text, 0o600)
	}
	if err != nil {
		return nil, remove, fmt.Errorf("write the parameters: %w", err)
	}
	return append(slices.Clone(args[:at+1]), "file://"+name), remove, nil
}

// hide puts names in the place of secrets.
func (k secrets) hide(text string) string {
	for name, secret := range k {
		text = strings.ReplaceAll(text, secret, "<"+name+">")
	}
	return text
}

// conceal is an error without secrets: the aws command may quote what it was given.
func (k secrets) conceal(err error) error {
	if err == nil || k.hide(err.Error()) == err.Error() {
		return err
	}
	return errors.New(k.hide(err.Error()))
}

// keyState is what is there of the key of cursors.
type keyState int

const (
	keyNone keyState = iota
	keyThere
	keyDeleted // AWS keeps it for some days
)

func askSecret(secret, region string) []string {
	return []string{"secretsmanager", "describe-secret", "--region", region, "--secret-id", secret, "--query", "DeletedDate", "--output", "text"}
}

// readKeyState takes what describe-secret answered.
func readKeyState(deleted string) keyState {
	switch deleted {
	case "":
		return keyNone
	case "None":
		return keyThere
	}
	return keyDeleted
}

// refuseKey says why the key of cursors, as it is, stands in the way.
func (st state) refuseKey(s settings) error {
	on := []string{"--region", st.home, "--secret-id", s.cursorSecret()}
	switch {
	case st.global == "" && st.key != keyNone:
		return fmt.Errorf("%s has a secret %s but no stack %s: it is left from before, and a new one takes its name. "+
			"Delete it, and run this again:\n  %s", st.home, s.cursorSecret(), s.globalStack(),
			line(append(append([]string{"secretsmanager", "delete-secret"}, on...), "--force-delete-without-recovery")))
	case st.key == keyDeleted:
		return fmt.Errorf("%s: the secret %s was deleted, and AWS still has it. Restore it, and run this again:\n  %s", st.home, s.cursorSecret(),
			line(append([]string{"secretsmanager", "restore-secret"}, on...)))
	}
	return nil
}

// anotherKey says what to do if the key of cursors is gone for good: the stack does not notice.
func (st state) anotherKey(s settings) string {
	random := []string{"secretsmanager", "get-random-password", "--region", st.home, "--password-length", "64", "--exclude-punctuation", "--query", "RandomPassword", "--output", "text"}
	create := []string{"secretsmanager", "create-secret", "--region", st.home, "--name", s.cursorSecret(), "--secret-string", "file:///dev/stdin"}
	return "It was deleted. Make another, and run this again with all regions; every client loads everything again, once:\n  " + line(random) + " |\n    " + line(create)
}
