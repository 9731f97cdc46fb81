// Package schema is the layout of the DynamoDB table, as far as the store and
// what counts usage share it. docs/dynamodb.md has all of it.
package schema

import (
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

// Attributes of a bucket from which usage is counted, and of usage.
const (
	Counter      = "c_" // before a limit's name: net tokens ever, or of the window
	BucketEvents = "e"  // of a bucket: acquires ever
	Birth        = "b"  // of a bucket: id of the write that made it
	// Removals is how many writes of a bucket have removed counters, with limits that
	// were full and not named any more; missing for none. A write that removes any
	// adds 1 to it: without it two states of a bucket between which a counter was
	// removed could look the same.
	Removals    = "r"
	UsageEvents = "events" // of usage: acquires of the window
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

// UsageIndex has what was used of a resource in one window, in the index.
func (k Keys) UsageIndex(resource string, window zael.Window, start time.Time) string {
	return k.Prefix + usageKey + UsageSort(resource, window, start)
}

const (
	entityKey = "E#"
	usageKey  = "U#"
)

// UsageSort is the sort key of usage.
func UsageSort(resource string, window zael.Window, start time.Time) string {
	return resource + "#" + WindowWord(window) + "#" + start.UTC().Format(StartLayout)
}

// StartLayout is how the start of a window is written.
const StartLayout = "2006-01-02T15Z"

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
