package usage

import "maps"

// counters are those of a bucket at one moment, by attribute: all acquires and all tokens
// that were ever taken, net of what was given back.
type counters map[string]int64

// A coverage is a range of changes of a bucket, from the first to the last by its version,
// with the counters on both sides. The difference is what all changes of the range have
// taken, whether each of them was seen or not.
//
// The merger of two coverages runs from the smaller first to the greater last. So the order
// of mergers does not matter, and merging a coverage again changes nothing.
type coverage struct {
	first  int64 // version of the bucket after the first change
	before counters
	last   int64 // and after the last
	after  counters
}

// contains reports whether merging other would change nothing.
func (c *coverage) contains(other *coverage) bool {
	return c.first <= other.first && other.last <= c.last
}

// merge returns the merger of c and other.
func (c *coverage) merge(other *coverage) coverage {
	merged := *c
	if other.first < c.first {
		merged.first, merged.before = other.first, other.before
	}
	if other.last > c.last {
		merged.last, merged.after = other.last, other.after
	}
	return merged
}

// empty reports whether a single change took nothing.
func (c *coverage) empty() bool { return maps.Equal(c.before, c.after) }
