// Package wire is the JSON of Parley, once: what the API takes and answers, the frames of a socket,
// and problems. The functions that serve it, the client in Go and the command line all use these
// structs. The package knows no framework; the tags doc, enum, minLength and maxLength are read by
// whatever makes the OpenAPI document.
//
// A field may be added to a struct. None is renamed, and none changes its type: clients of other
// versions read it.
package wire

import (
	"runtime/debug"
	"strings"
)

// Version names the build that is running: the module's version, such as v1.2.0, or the first 12
// digits of the revision it was built from, with "-dirty" if files had changed since. It is "devel"
// where the build says neither, as in a test.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return devel
	}
	return versionOf(info)
}

const devel = "devel"

func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.Replace(v, "+dirty", "-dirty", 1)
	}
	version, dirty := devel, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && s.Value != "":
			version = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if version == devel {
		return devel
	}
	return version + dirty
}
