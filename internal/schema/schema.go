// Package schema has those parts of the DynamoDB table's layout that the store shares with
// the programs that count usage. docs/dynamodb.md describes all of it.
package schema

import (
	"fmt"
	"strings"
	"time"

	"github.com/zeroae/zael"
)

// Keys and index of the table.
const (
	Index     = "GSI1"
	BucketKey = "B#" // precedes the resource in the sort key of a bucket
)

// These precede the label of a stream in sort keys of the system partition without a
// namespace, which has what concerns the whole table.
const (
	ShardKey = "#SHARD#" // the lease of a shard of the stream
	DeadKey  = "#DEAD#"  // a dead letter
)

// The version record is in the system partition without a namespace. It has the rules by
// which the function of the stack counts, if there is a function.
const (
	VersionKey      = "#VERSION"
	RecordWindows   = "windows"        // separated by commas
	RecordRetention = "retention_days" // of usage
)

// Attributes of a bucket from which usage is counted. The counters are cumulative until
// the item goes, or a write removes counters.
const (
	Counter      = "c_" // before a limit's name: net tokens ever taken
	Overdrawn    = "i_" // before a soft limit's name: acquires that left it overdrawn ("in debt"); missing if none has
	BucketEvents = "e"  // acquires ever
	Birth        = "b"  // id of the write that made the item
	// SettingsRev is the revision of the settings that hold for the bucket: no take under
	// older ones is applied.
	SettingsRev = "x"
	ItemVersion = "v" // how many writes have changed the item; each adds 1
	// Removals is how many writes have removed counters, with limits that were full and
	// not named any more; missing if none has. Each write that removes any adds 1 to it:
	// without it nobody could tell that a counter began again.
	Removals = "r"
)

// Attributes of usage: maps of a bucket's counters before the first change of a window
// and after the last. Usage is the difference.
const (
	UsageBefore = "before"
	UsageAfter  = "after"
)

// Keys makes the keys of the items of a namespace. A namespace has no "/" in it, and "/"
// ends it; a word and "#" follow.
type Keys struct{ Prefix string }

// Of returns the Keys of a namespace.
func Of(namespace string) Keys {
	if namespace == "" {
		return Keys{}
	}
	return Keys{Prefix: namespace + "/"}
}

// Entity returns the partition of an entity: its record and its buckets.
func (k Keys) Entity(id string) string { return k.Prefix + entityKey + id }

// System returns the partition of what concerns the whole namespace.
func (k Keys) System() string { return k.Prefix + "SYSTEM" }

// Usage returns the partition of what an entity used.
func (k Keys) Usage(entity string) string { return k.Prefix + usageKey + entity }

// UsageIndex returns the index partition of what was used of a resource in one window.
func (k Keys) UsageIndex(resource string, window zael.Window, start time.Time) string {
	return k.Prefix + usageKey + usageWindow(resource, window, start)
}

const (
	entityKey = "E#"
	usageKey  = "U#"
)

// UsageSort returns the sort key of usage: what was used of a resource in one window,
// during one life of the bucket, whose text has no "#" in it.
func UsageSort(resource string, window zael.Window, start time.Time, life string) string {
	return usageWindow(resource, window, start) + "#" + life
}

func usageWindow(resource string, window zael.Window, start time.Time) string {
	return UsagePrefix(resource, window) + start.UTC().Format(startLayout)
}

// UsagePrefix returns what the sort keys of a resource's usage by one window begin with.
func UsagePrefix(resource string, window zael.Window) string {
	return escape(resource) + "#" + WindowWord(window) + "#"
}

// escape returns a name without "#", so that in keys which are read by their beginning no
// other name begins with it and a "#".
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "%", "%25"), "#", "%23")
}

func unescape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "%23", "#"), "%25", "%")
}

// ParseUsageSort returns what UsageSort was given, except for the life.
func ParseUsageSort(sort string) (resource string, window zael.Window, start time.Time, err error) {
	parts := strings.Split(sort, "#")
	if len(parts) != 4 {
		return "", "", start, fmt.Errorf("%q is not the sort key of usage", sort)
	}
	resource, window = unescape(parts[0]), WindowOf(parts[1])
	if start, err = time.Parse(startLayout, parts[2]); err != nil || window == "" {
		return "", "", start, fmt.Errorf("%q is not the sort key of usage", sort)
	}
	return resource, window, start, nil
}

// startLayout is the format of the start of a window.
const startLayout = "2006-01-02T15Z"

// WindowWord returns the word for a window in keys.
func WindowWord(w zael.Window) string {
	switch w {
	case zael.Daily:
		return "day"
	case zael.Monthly:
		return "month"
	default:
		return "hour"
	}
}

// WindowOf returns the window for a word in keys, "" if there is none.
func WindowOf(word string) zael.Window {
	for _, w := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		if WindowWord(w) == word {
			return w
		}
	}
	return ""
}

// Bucket returns the namespace and the key of the bucket that an item is. ok is false if
// it is not a bucket.
func Bucket(pk, sk string) (k Keys, key zael.Key, ok bool) {
	resource, ok := strings.CutPrefix(sk, BucketKey)
	if !ok {
		return k, key, false
	}
	rest := pk
	if !strings.HasPrefix(pk, entityKey) {
		namespace, after, found := strings.Cut(pk, "/")
		if !found || strings.Contains(namespace, "#") {
			return k, key, false
		}
		k, rest = Of(namespace), after
	}
	entity, ok := strings.CutPrefix(rest, entityKey)
	return k, zael.Key{Entity: entity, Resource: resource}, ok
}
