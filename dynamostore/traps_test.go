package dynamostore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/trial"
)

// Trap 12 of the kinds: the engine takes 300 operators in an expression. The most limits that a write
// names, all with another calendar, and slots that 40 dead holders have, are within that.
func TestTrap12OperatorsOfAnExpression(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	s, err := dynamostore.NewTrial(c, newTable(t, c), patient(), trial.Options{VirtualTime: true})
	opened(t, s, err)
	quota := func(spec bucket.CalendarSpec) bucket.Definition {
		calendar, err := bucket.NewCalendar(spec)
		if err != nil {
			t.Fatal(err)
		}
		return bucket.Definition{Kind: bucket.Quota, Burst: 10, Capacity: 10, Calendar: calendar}
	}
	slots := bucket.Definition{Kind: bucket.Slots, Burst: protocol.MaxReclaimed, Capacity: 1, Period: bucket.MinHold}
	for i := range protocol.MaxReclaimed {
		d := debit("e", ask("parallel", slots, 1))
		d.Holder = fmt.Sprintf("holder-that-died-%02d", i)
		if _, err := s.Take(t.Context(), t0, 0, []zael.Debit{d}); err != nil {
			t.Fatal(err)
		}
	}
	take := func(after time.Duration, n int, d bucket.Definition, held int64) {
		t.Helper()
		all := debit("e")
		all.Holder = "process1"
		for i := range n {
			all.Charges = append(all.Charges, ask(fmt.Sprintf("a-quota-with-a-long-name-%02d", i), d, 1))
		}
		all.Charges = append(all.Charges, ask("parallel", slots, held))
		if _, err := s.Take(t.Context(), t0.Add(after), 0, []zael.Debit{all}); err != nil {
			t.Errorf("%d limits after %v: got %v", len(all.Charges), after, err)
		}
	}
	const most = protocol.MaxKindLimits - 1 // and slots
	days, year := quota(bucket.CalendarSpec{Each: bucket.Each365Days}), quota(bucket.CalendarSpec{Each: bucket.Yearly, On: 101, Zone: "Europe/Berlin"})
	take(0, most, days, 0)
	take(2*bucket.MinHold, most, year, 4) // the dead take what is left
	take(2*bucket.MinHold, 15, days, protocol.MaxReclaimed-4)

	days = softly(days) // of which so many are counted as overdrawn as well
	days.Burst, days.Capacity = 1, 1
	take(2*bucket.MinHold, most, days, 0)
	take(2*bucket.MinHold, most, year, 0)
	year = softly(year)
	year.Burst, year.Capacity = 1, 1
	take(2*bucket.MinHold, most, year, 0)
}
