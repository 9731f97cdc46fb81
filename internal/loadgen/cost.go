package loadgen

import (
	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// A Cost is what calls of DynamoDB cost.
type Cost struct {
	Calls      uint64  `json:"calls"`
	WriteUnits float64 `json:"write_units"`
	ReadUnits  float64 `json:"read_units"`
}

// costOf returns what a store has cost so far, or nil if it does not count.
func costOf(store zael.Store) *Cost {
	s, ok := store.(interface{ Stats() dynamostore.Stats })
	if !ok {
		return nil
	}
	stats := s.Stats()
	return &Cost{Calls: stats.Writes + stats.Reads, WriteUnits: stats.WriteUnits, ReadUnits: stats.ReadUnits}
}

// plus returns the sum of two costs, of which either may be nil.
func (c *Cost) plus(other *Cost) *Cost {
	switch {
	case c == nil:
		return other
	case other == nil:
		return c
	}
	return &Cost{c.Calls + other.Calls, c.WriteUnits + other.WriteUnits, c.ReadUnits + other.ReadUnits}
}

// since returns what was added since an earlier cost; nil if either is nil.
func (c *Cost) since(earlier *Cost) *Cost {
	if c == nil || earlier == nil {
		return nil
	}
	return &Cost{c.Calls - earlier.Calls, c.WriteUnits - earlier.WriteUnits, c.ReadUnits - earlier.ReadUnits}
}
