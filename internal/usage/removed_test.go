package usage_test

import (
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/dynamofake"
)

// A bucket may come back to the same counters when one of them was removed: what was
// taken of it in between counts all the same.
func TestRemovedCounterBetweenEqualStates(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Daily)
	h := newHistory("e1")
	first := h.to("b", "x", "e", 1, "c_rpm", 5)
	charged := h.to("b", "x", "e", 1, "c_rpm", 5, "c_tpm", 7)
	removed := h.to("b", "x", "r", 1, "e", 1, "c_rpm", 6)
	back := h.to("b", "x", "r", 1, "e", 1, "c_rpm", 5)
	last := h.to("b", "x", "r", 1, "e", 2, "c_rpm", 6)
	count(t, c, first)
	count(t, c, last)
	count(t, c, charged, removed, back)
	wantUsage(t, table, zael.UsageQuery{Entity: "e1", Window: zael.Daily}, map[string]int64{
		"e1 gpt-4 daily 01-31T00 events": 2, "e1 gpt-4 daily 01-31T00 rpm": 6, "e1 gpt-4 daily 01-31T00 tpm": 7,
	})
}
