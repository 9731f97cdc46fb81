// Package schema is the layout of the DynamoDB table, as far as the store and
// what counts usage share it. docs/dynamodb.md has all of it.
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
	BucketKey = "B#" // before the resource, in the sort key of a bucket
)

// In System of no namespace, which has what concerns the whole table: before the
// label of its stream.
const (
	ShardKey = "#SHARD#" // who reads a shard of it, and how far
	DeadKey  = "#DEAD#"  // a record that could not be counted
)

// The version record is in System of no namespace. It also says how the function of
// the stack counts, for who counts with it; nothing if there is none.
const (
	VersionKey      = "#VERSION"
	RecordWindows   = "windows"        // a list with commas
	RecordRetention = "retention_days" // of usage
)

// Attributes of a bucket from which usage is counted. The counters are cumulative until
// the item goes, or a write removes counters.
const (
	Counter      = "c_" // before a limit's name: net tokens ever taken
	BucketEvents = "e"  // acquires ever
	Birth        = "b"  // id of the write that made the item
	Version      = "v"  // how many writes have changed the item; each adds 1
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

// Keys makes the keys of items. Namespaces end at the first "/", which none of
// them has in it, and what follows begins with a word and a "#".
type Keys struct{ Prefix string }

// Of makes the keys of a namespace.
func Of(namespace string) Keys {
	if namespace == "" {
		return Keys{}
	}
	return Keys{Prefix: namespace + "/"}
}

// Entity has the entity's buckets and its own record.
func (k Keys) Entity(id string) string { return k.Prefix + entityKey + id }

// System has what concerns the whole namespace.
func (k Keys) System() string { return k.Prefix + "SYSTEM" }

// Usage has what an entity used.
func (k Keys) Usage(entity string) string { return k.Prefix + usageKey + entity }

// UsageIndex returns the index key of what was used of a resource in one window.
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
	return resource + "#" + WindowWord(window) + "#" + start.UTC().Format(startLayout)
}

// ParseUsageSort is the inverse of UsageSort, without the life. A resource may have "#" in it.
func ParseUsageSort(sort string) (resource string, window zael.Window, start time.Time, err error) {
	parts := strings.Split(sort, "#")
	n := len(parts) - 3
	if n < 1 {
		return "", "", start, fmt.Errorf("%q is not the sort key of usage", sort)
	}
	resource, window = strings.Join(parts[:n], "#"), WindowOf(parts[n])
	if start, err = time.Parse(startLayout, parts[n+1]); err != nil || window == "" {
		return "", "", start, fmt.Errorf("%q is not the sort key of usage", sort)
	}
	return resource, window, start, nil
}

// startLayout is the format of the start of a window.
const startLayout = "2006-01-02T15Z"

// WindowWord is a window as keys have it.
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

// WindowOf is the window that a word means; "" if none.
func WindowOf(word string) zael.Window {
	for _, w := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		if WindowWord(w) == word {
			return w
		}
	}
	return ""
}

// Bucket is whose bucket an item is; ok is false if it is no bucket.
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
