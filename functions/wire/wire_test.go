package wire

import (
	"encoding/json"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	for _, tt := range []struct{ module, revision, modified, want string }{
		{"v1.2.0", revision, "false", "v1.2.0"},
		{"v0.0.0-20260701120000-0123456789ab+dirty", revision, "true", "v0.0.0-20260701120000-0123456789ab-dirty"},
		{"(devel)", revision, "false", "0123456789ab"},
		{"", revision, "true", "0123456789ab-dirty"},
		{"(devel)", "", "true", "devel"},
		{"", "", "", "devel"},
	} {
		info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: tt.revision}, {Key: "vcs.modified", Value: tt.modified}}}
		info.Main.Version = tt.module
		if got := versionOf(info); got != tt.want {
			t.Errorf("%+v is %q", tt, got)
		}
	}
	if Version() == "" {
		t.Error("no version")
	}
}

// Frame has every field of every frame that a server sends, of the same type.
func TestFrameHasAllFields(t *testing.T) {
	frame := map[string]reflect.Type{}
	for f := range reflect.TypeFor[Frame]().Fields() {
		frame[nameOf(f)] = f.Type
	}
	for _, sent := range []any{Hello{}, EventFrame{}, Positions{}, Unsubscribed{}, Sent{}, CaughtUp{}, Error{}, Typing{}, Removed{}, Bye{}} {
		for f := range reflect.TypeOf(sent).Fields() {
			got := frame[nameOf(f)]
			decodes := got == f.Type || got == reflect.TypeFor[json.RawMessage]() || got == reflect.PointerTo(f.Type)
			if !decodes {
				t.Errorf("%s of %T is a %s in it, and a %v in Frame", nameOf(f), sent, f.Type, got)
			}
		}
	}
}

func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// An event in a frame may come without its data; null is data.
func TestEventData(t *testing.T) {
	var e Event
	if err := json.Unmarshal([]byte(`{"type":"room.archived","data":{"a":"<"}}`), &e); err != nil || string(e.Data) != `{"a":"<"}` {
		t.Fatalf("the data is %s, %v", e.Data, err)
	}
	e.Data = nil
	text, err := json.Marshal(e)
	if err != nil || strings.Contains(string(text), "data") {
		t.Errorf("without data it is %s, %v", text, err)
	}
}
