package dynamolog

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const testIdentity = "0123456789abcdef"

func FuzzCheckpoint(f *testing.F) {
	for _, seed := range []string{
		"", "s1", "s1//", "s1/0123456789abcdef/",
		"s1/0123456789abcdef/shardId-00000001795476538855-7a94a7ce=000000000000000000501",
		"s1/0123456789abcdef/a=oldest,b=first,c=done,d=gone,e=1",
		"s1/0123456789abcdef/a=1,a=2", "s1/0123456789abcdef/a=1,", "s1/0123456789abcdef/a", "s2/0123456789abcdef/a=1",
		"s1/fedcba9876543210/a=1", "s1/0123456789abcdef/a=" + strings.Repeat("9", 41),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		decoded, err := decodeFrontier(text, testIdentity)
		if err != nil {
			if !errors.Is(err, ErrCheckpoint) && !errors.Is(err, ErrOtherStream) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again := decoded.encode(testIdentity); again != text {
			t.Fatalf("%q was read and written as %q", text, again)
		}
	})
}

func TestStreamCheckpointOfAnother(t *testing.T) {
	f := frontier{[]member{{"shardId-00000001795476538855-7a94a7ce", place{upTo, "000000000000000000501"}}}}
	text := f.encode(testIdentity)
	if len(text) != 79 {
		t.Errorf("a usual checkpoint takes %d bytes: %s", len(text), text)
	}
	if _, err := decodeFrontier(text, streamIdentity("here", "arn")); !errors.Is(err, ErrOtherStream) {
		t.Errorf("the checkpoint of another stream: error %v", err)
	}
	if streamIdentity("here", "arn") == streamIdentity("there", "arn") {
		t.Error("streams of two regions have one identity")
	}
	for _, bad := range []string{"x", "12", "s0" + text[2:], text[:50], text + ",", text + "x", strings.ToUpper(text)} {
		if _, err := decodeFrontier(bad, testIdentity); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

func TestCompareSequences(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"000000000000000000009", "000000000000000000010", -1},
		{"820400000000000001192334", "20500000000000000910398", 1},
		{"07", "7", 0},
		{"0", "00", 0},
	} {
		if got := compareSequences(tt.a, tt.b); got != tt.want {
			t.Errorf("%s and %s compare as %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestStreamPace(t *testing.T) {
	quick := NewStream(at("http://localhost"), "events", StreamPoll(50*time.Millisecond)).pace
	for _, tt := range []struct{ idle, quick, aws time.Duration }{
		{0, time.Millisecond, 250 * time.Millisecond},
		{80 * time.Millisecond, 10 * time.Millisecond, 250 * time.Millisecond},
		{time.Hour, 50 * time.Millisecond, 250 * time.Millisecond},
	} {
		if q, a := quick.after(tt.idle), awsPace.after(tt.idle); q != tt.quick || a != tt.aws {
			t.Errorf("after %v idle: again after %v, on AWS %v; want %v and %v", tt.idle, q, a, tt.quick, tt.aws)
		}
	}
}
