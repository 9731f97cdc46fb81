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

// costOf is what a store has cost so far; nil if it does not tell.
func costOf(store zael.Store) *Cost {
	s, ok := store.(interface{ Stats() dynamostore.Stats })
	if !ok {
		return nil
	}
	stats := s.Stats()
	return &Cost{Calls: stats.Writes + stats.Reads, WriteUnits: stats.WriteUnits, ReadUnits: stats.ReadUnits}
}

// and is what both cost.
func (c *Cost) and(d *Cost) *Cost {
	switch {
	case c == nil:
		return d
	case d == nil:
		return c
	}
	return &Cost{c.Calls + d.Calls, c.WriteUnits + d.WriteUnits, c.ReadUnits + d.ReadUnits}
}

// to is what came between c and a later d.
func (c *Cost) to(d *Cost) *Cost {
	if c == nil || d == nil {
		return nil
	}
	return &Cost{d.Calls - c.Calls, d.WriteUnits - c.WriteUnits, d.ReadUnits - c.ReadUnits}
}
