package main

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A command line that is wrong says what is wrong with it and what would be right.
func TestUsage(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"stauts", `did you mean "status"`},
		{"jobs wach x", `"watch"`},
		{"status -jsno", `-json`},
		{"rebuild", "<projection>"},
		{"audit -only view", `"views"`},
		{"audit -settle soon", "-settle"},
		{"replay", "-to=PREFIX"},
		{"import x -shift tomorrow", "20000d"},
		{"import x -owner a/b", "-owner"},
		{"import x -lanes 0", "-lanes"},
		{"status -url 127.0.0.1", "-url must be a URL"},
		{"status -as a/b", "-as"},
		{"jobs show x", "ULID"},
		{"events x", "no room's id"},
		{"export user/ada -messages", "in rooms only"},
		{"tail -type message.psted", "message.posted"},
		{"tail -past 3", "-room"},
		{"parked retry", "-all"},
		{"drain", "<region>"},
		{"erase", "<user>"},
		{"erase ada", "-yes"},
		{"erase ada -yes -dry-run", "-dry-run"},
		{"erase a/b -yes", "user's id"},
	} {
		s := operate(t.Context(), strings.Fields(tt.line)...)
		if s.code != exitUsage || !strings.Contains(s.err, tt.want) || !strings.Contains(s.err, "-help") || s.out != "" {
			t.Errorf("%s: %d %q, want %q", tt.line, s.code, s.err, tt.want)
		}
	}
}

// Every command has a help that names its flags as they are given, and nothing answers it but help.
func TestHelp(t *testing.T) {
	for _, line := range []string{"", "-help", "-h", "status -help", "rebuild -help", "audit -h", "jobs -help", "jobs watch -help", "parked retry -help", "import -help", "export -help", "erase -help", "tail -help"} {
		s := operate(t.Context(), strings.Fields(line)...)
		if s.code != 0 || !strings.HasPrefix(s.out, "Usage: operate") || strings.Contains(s.out, "--") || s.err != "" {
			t.Errorf("%q: %d %q %q", line, s.code, s.out, s.err)
		}
	}
}

func TestShift(t *testing.T) {
	for text, want := range map[string]time.Duration{"36h": 36 * time.Hour, "-12h": -12 * time.Hour, "20000d": 480_000 * time.Hour, "1.5d": 36 * time.Hour} {
		var s shift
		if err := s.UnmarshalText([]byte(text)); err != nil || time.Duration(s) != want {
			t.Errorf("%s is %s, %v", text, time.Duration(s), err)
		}
	}
	for _, text := range []string{"", "d", "7", "400000d", "1y"} {
		if err := new(shift).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestThousands(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.Int64Range(-1<<62, 1<<62).Draw(rt, "n")
		text := thousands(n)
		if strings.ReplaceAll(strings.TrimPrefix(text, "-"), ",", "") != strings.TrimPrefix(strings.ReplaceAll(text, ",", ""), "-") {
			rt.Fatal(text)
		}
		for i, part := range strings.Split(strings.TrimPrefix(text, "-"), ",") {
			if i > 0 && len(part) != 3 || len(part) == 0 || len(part) > 3 {
				rt.Fatalf("%d is %s", n, text)
			}
		}
	})
}
