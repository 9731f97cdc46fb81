package usage_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/dynamofake"
	"github.com/zeroae/zael/internal/usage"
)

// Changes of one bucket that failed one by one, as many as a day may have, and
// are redriven one by one, in order, backwards and in none: each counts once, and
// the item does not remember them for ever.
func TestHolesClose(t *testing.T) {
	t.Parallel()
	const failed = 1000
	for name, order := range map[string]func(i int) int{
		"in order":  func(i int) int { return i },
		"backwards": func(i int) int { return failed - 1 - i },
		"at random": func() func(int) int {
			p := rand.New(rand.NewPCG(1, 1)).Perm(failed)
			return func(i int) int { return p[i] }
		}(),
	} {
		for _, late := range []bool{false, true} { // the first change of all is counted last
			t.Run(fmt.Sprintf("%s, the first late %v", name, late), func(t *testing.T) {
				t.Parallel()
				table := dynamofake.New()
				var log bytes.Buffer
				c, err := usage.New(table, "fake", &usage.Config{
					Windows: []zael.Window{zael.Daily}, Log: slog.New(slog.NewTextHandler(&log, nil)),
				})
				if err != nil {
					t.Fatal(err)
				}
				h := newHistory("e1")
				first := h.to("b", "x", "e", 1, "c_rpm", 1)
				if !late {
					count(t, c, first)
				}
				var letters []usage.Record
				for i := range failed {
					letters = append(letters, h.to("b", "x", "e", i+2, "c_rpm", i+2))
				}
				count(t, c, h.to("b", "x", "e", failed+2, "c_rpm", failed+2))
				// What fails has to wait for others; what has counted counts no more.
				for left := failed; left > 0; {
					before := left
					left = 0
					for i := range failed {
						left += len(c.Count(t.Context(), []usage.Record{letters[order(i)]}).Failures)
					}
					if left == before {
						t.Fatalf("%d changes of %d never count", left, failed)
					}
				}
				count(t, c, first)
				wantUsage(t, table, zael.UsageQuery{Entity: "e1", Window: zael.Daily}, map[string]int64{
					"e1 gpt-4 daily 01-31T00 events": failed + 2, "e1 gpt-4 daily 01-31T00 rpm": failed + 2,
				})
				if log.Len() > 0 {
					t.Errorf("the log: got %s, want nothing", &log)
				}
				if holes := table.Get("U#e1", "gpt-4#day#2026-01-31T00Z")["holes"]; holes != nil {
					t.Errorf("holes: got %v, want none", holes)
				}
			})
		}
	}
}
