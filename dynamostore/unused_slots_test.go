package dynamostore_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// Slots of names that are used once do not add up in a bucket that is in use; those that
// somebody has stay.
func TestUnusedSlotsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: time.Millisecond}
		s := storeOn(t, n, 1)
		take := func(name string) []zael.Debit {
			t.Helper()
			d := debit("e", ask(name, slotsOf(2), 2), ask("rpm", define(1000, 1, time.Hour), 1))
			d.Holder = "own"
			if _, err := s.Take(t.Context(), time.Now(), 0, []zael.Debit{d}); err != nil {
				t.Fatal(err)
			}
			d.Charges[0].Amount, d.Charges = -2, d.Charges[:1]
			return []zael.Debit{d}
		}
		held := take("held")
		for i := range 100 {
			if _, err := s.Adjust(t.Context(), time.Now(), take(fmt.Sprint("once-", i))); err != nil {
				t.Fatal(err)
			}
		}
		left := 0
		for attribute := range n.Get("E#e", "B#gpt-4") {
			if strings.HasPrefix(attribute, "s_") || strings.HasPrefix(attribute, "n_") {
				left++
			}
		}
		if left > 2*9 {
			t.Errorf("after 100 names: got %d attributes of slots, want those of 9 names at most", left)
		}
		if _, err := s.Adjust(t.Context(), time.Now(), held); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Adjust(t.Context(), time.Now(), take("held")); err != nil {
			t.Error(err)
		}
		if _, err := s.Adjust(t.Context(), time.Now(), take("once-0")); err != nil {
			t.Error(err)
		}
	})
}
