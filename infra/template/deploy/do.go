package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// do carries the steps out, one after the other, and returns what they saved.
func do(ctx context.Context, steps []step, p place) (map[string]string, error) {
	saved := map[string]string{strings.Trim(workFolder, "<>"): p.work}
	hidden := secrets{}
	for i, s := range steps {
		s.args = filled(s.args, saved)
		fmt.Fprint(p.out, s.shown(i+1, len(steps)))
		text, err := s.carryOut(ctx, p, hidden)
		if err != nil {
			return nil, fmt.Errorf("%s: %w\nWhat was done so far stays. Mend the cause and run the same command again: it goes on from there", s.title, err)
		}
		if s.save != "" {
			if text == "" || text == "None" {
				return nil, fmt.Errorf("%s: AWS tells of none", s.title)
			}
			if s.quiet {
				hidden[s.save] = text
				continue
			}
			saved[s.save] = text
		}
		if s.save != "" || s.big {
			fmt.Fprintf(p.out, "    -> %s\n", last(text))
		}
	}
	return saved, nil
}

// carryOut carries one step out and returns what it prints, without what is hidden.
func (s step) carryOut(ctx context.Context, p place, hidden secrets) (string, error) {
	if s.file != "" {
		if err := os.WriteFile(filepath.Join(p.work, s.file), []byte(s.text), 0o600); err != nil {
			return "", fmt.Errorf("write a template: %w", err)
		}
	}
	args, remove, err := hidden.give(s.args, p.work)
	defer remove()
	if err != nil {
		return "", err
	}
	if s.big {
		fmt.Fprintln(p.out, "    waiting for it; it can take minutes")
	}
	text, err := p.aws(ctx, args...)
	if s.absent != "" && says(err, noSecret) {
		err = fmt.Errorf("%w\n%s", err, s.absent)
	}
	return strings.TrimSpace(hidden.hide(text)), hidden.conceal(err)
}

// filled puts what was saved in the place of its name.
func filled(args []string, saved map[string]string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		for name, value := range saved {
			arg = strings.ReplaceAll(arg, "<"+name+">", value)
		}
		out[i] = arg
	}
	return out
}

func last(text string) string {
	lines := strings.Split(text, "\n")
	if text = strings.TrimSpace(lines[len(lines)-1]); text == "" {
		return "done"
	}
	return text
}

// shown is a step as it is printed.
func (s step) shown(n, of int) string {
	text := fmt.Sprintf("[%d/%d] %s\n", n, of, s.title)
	if s.costs != "" {
		text += "    costs: " + s.costs + "\n"
	}
	return text + "    " + line(s.args) + "\n"
}

// plain are words that a shell takes as they are.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// line is a command line of aws that a shell would understand.
func line(args []string) string {
	words := []string{"aws"}
	for _, arg := range args {
		if !plain.MatchString(arg) {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}
