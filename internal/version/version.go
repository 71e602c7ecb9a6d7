// Package version says which version of kafka-backup this is.
package version

import "runtime/debug"

// number is set by the linker: -ldflags "-X .../internal/version.number=v1.2.3".
var number string

// String is the version: the number that the release was built with, or else
// the commit, or "devel".
func String() string {
	if number != "" {
		return number
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, modified string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			if s.Value == "true" {
				modified = "+changes"
			}
		}
	}
	if revision == "" {
		return "devel"
	}
	return revision + modified
}
