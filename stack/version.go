package stack

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// SchemaVersion is the version of the table's layout. Programs of one major version
// understand each other's items. It is independent of the programs' own versions.
const SchemaVersion = "1.0.0"

// leastClient is the oldest program that understands what this one writes.
const leastClient = "v0.0.0"

const (
	modulePath = "github.com/zeroae/zael"
	devel      = "(devel)"
)

// Version returns the version of zael in this program, such as v1.2.3, or "(devel)" for a
// build without one.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return devel
	}
	return versionIn(info)
}

func versionIn(info *debug.BuildInfo) string {
	if info.Main.Path == modulePath {
		return cmp.Or(info.Main.Version, devel)
	}
	for _, m := range info.Deps {
		if m.Path == modulePath {
			if m.Replace != nil {
				return cmp.Or(m.Replace.Version, devel)
			}
			return cmp.Or(m.Version, devel)
		}
	}
	return devel
}

// release returns a version that can be compared, with its v; empty for those that cannot:
// that of a build from a checkout without tags, "(devel)" or v0.0.0-date-commit. Such a
// program is never refused, and never older or newer than another.
func release(version string) string {
	if version != "" && !strings.HasPrefix(version, "v") {
		version = "v" + version
	}
	if !semver.IsValid(version) {
		return ""
	}
	if module.IsPseudoVersion(strings.TrimSuffix(version, semver.Build(version))) && strings.HasPrefix(version, "v0.0.0-") {
		return ""
	}
	return version
}

// older reports whether a is known to be older than b.
func older(a, b string) bool {
	a, b = release(a), release(b)
	return a != "" && b != "" && semver.Compare(a, b) < 0
}

// A verdict says what the versions in a record mean for a program.
type verdict struct {
	err      error // why the program must not go on; nil if it may
	outdated bool  // whether the aggregator is older than the program
}

// compareVersions compares a record with a program of a version.
func compareVersions(r *Record, client string) verdict {
	schema := release(r.Schema)
	if schema == "" {
		return verdict{err: fmt.Errorf("%w: the table says that its schema is %q, which is no version", ErrIncompatibleSchema, r.Schema)}
	}
	own := release(SchemaVersion)
	if semver.Major(schema) != semver.Major(own) {
		what := "use a newer zael"
		if semver.Compare(schema, own) < 0 {
			what = "use an older zael, or another table"
		}
		return verdict{err: fmt.Errorf("%w: the table's is %s and this zael's %s: %s", ErrIncompatibleSchema, r.Schema, SchemaVersion, what)}
	}
	if older(client, r.ClientMin) {
		return verdict{err: &VersionError{
			Client: client, Lambda: r.Lambda, ClientMin: r.ClientMin,
			Reason: fmt.Sprintf("this zael is %s and the table is for %s or newer: upgrade this program", client, r.ClientMin),
		}}
	}
	return verdict{outdated: r.Lambda != "" && older(r.Lambda, client)}
}

// mismatch returns the error of an aggregator that is older than the program.
func (r *Record) mismatch(client string, cause error) *VersionError {
	return &VersionError{
		Client: client, Lambda: r.Lambda, ClientMin: r.ClientMin, Cause: cause,
		Reason: fmt.Sprintf("the aggregator is of zael %s and this program of %s: run `zael upgrade`, or allow it (AllowVersionMismatch)", r.Lambda, client),
	}
}
