package bucket_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A life is a record that operations are made on.
type kindsLife struct {
	t *testing.T
	r bucket.Record
}

// take takes n of a limit, which has to fit.
func (l *kindsLife) take(at bucket.Instant, d bucket.Definition, n int64) bucket.Charge {
	l.t.Helper()
	charges := []bucket.Charge{{Name: "n", Definition: d, Amount: n}}
	if got := l.r.Take(charges, at, 0, 7); got != bucket.Fits {
		l.t.Fatalf("a take of %d of a %v: got outcome %d, want it to fit", n, d.Kind, got)
	}
	l.r.Finish(bucket.Fits, charges, at)
	return charges[0]
}

func (l *kindsLife) adjust(at bucket.Instant, c bucket.Charge, n int64) {
	l.t.Helper()
	c.Amount = n
	charges := []bucket.Charge{c}
	if _, err := l.r.Adjust(charges, at, 7); err != nil {
		l.t.Fatal(err)
	}
	l.r.Finish(bucket.Fits, charges, at)
}

func (l *kindsLife) left(at bucket.Instant, want int64) {
	l.t.Helper()
	if got := l.r.State("n").Available(at); got != want {
		l.t.Errorf("available: got %d, want %d", got, want)
	}
}

const lifeDay = bucket.Instant(24 * time.Hour)

func dailyQuota(t *testing.T, n int64, flags bucket.Flags) bucket.Definition {
	t.Helper()
	c, err := bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.Daily})
	if err != nil {
		t.Fatal(err)
	}
	return bucket.Definition{Kind: bucket.Quota, Burst: n, Capacity: n, Calendar: c, Flags: flags}
}

// What was taken while a limit was unlimited charged nothing: given back after that, it must
// not give back what others have taken.
func TestUnlimitedTakeGivesNothingBack(t *testing.T) {
	t.Parallel()
	for _, d := range []bucket.Definition{dailyQuota(t, 10, 0), {Burst: 10, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1}} {
		l := &kindsLife{t: t}
		l.take(0, d, 6)
		free := l.take(1, bucket.Unbounded(), 5)
		l.take(2, d, 0)
		l.adjust(3, free, -5)
		l.left(3, 4)
	}
}

// A charge above the rate's own burst, in a window that has a greater one, is no place in line.
func TestGiveInAWindowWithAGreaterBurst(t *testing.T) {
	t.Parallel()
	d := bucket.Definition{Burst: 10, Amount: 1, Period: time.Hour, Capacity: 1}
	var err error
	if d.Schedule, err = bucket.NewSchedule(d, []bucket.ScheduleWindow{{Days: 0x7f, To: 24 * 60, Burst: 100}}); err != nil {
		t.Fatal(err)
	}
	l := &kindsLife{t: t}
	first := l.take(lifeDay, d, 60)
	l.take(lifeDay, d, 1)
	l.adjust(lifeDay, first, -60)
	l.left(lifeDay, 99)
}

// Debt has ended, or was carried, by the definition that held then, whatever comes after it.
func TestChangeOfWhatCarriesDebt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		first, then bucket.Flags
		n           int64 // the amount then
		left        int64
	}{
		{"debt that has ended does not come back", 0, bucket.CarryDebt, 10, 10},
		{"debt that is carried stays until the end", bucket.CarryDebt, 0, 10, -5},
		{"a lower amount has not paid less before", bucket.CarryDebt, bucket.CarryDebt, 5, -10},
	} {
		l := &kindsLife{t: t}
		l.take(0, dailyQuota(t, 10, tt.first|bucket.Soft), 25)
		l.adjust(lifeDay, bucket.Charge{Name: "n", Definition: dailyQuota(t, tt.n, tt.then)}, 0)
		if got := l.r.State("n").Available(lifeDay); got != tt.left {
			t.Errorf("%s: got %d available, want %d", tt.name, got, tt.left)
		}
		l.left(lifeDay, tt.left)
	}
}

// A settle of a quota that was forgotten leaves no limit without a definition.
func TestSettleOfAForgottenLimit(t *testing.T) {
	t.Parallel()
	d := dailyQuota(t, 10, 0)
	l := &kindsLife{t: t}
	c := l.take(0, d, 3)
	l.r.Limits = append(l.r.Limits, bucket.LimitState{Name: "other", State: bucket.State{}.Redefine(d, 2*lifeDay, 1)})
	if l.r.Forget(2*lifeDay, nil) == 0 {
		t.Fatal("nothing was forgotten")
	}
	l.adjust(2*lifeDay, c, 4)
	for _, limit := range l.r.Limits {
		if limit.State.Absent() {
			t.Errorf("got limit %q without a definition", limit.Name)
		}
	}
	l.take(2*lifeDay, d, 10)
}

func lifeSlots() bucket.Definition {
	return bucket.Definition{Kind: bucket.Slots, Burst: 2, Capacity: 2, Period: time.Minute}
}

// Holders die before 2025 as well.
func TestSlotsBeforeEpoch(t *testing.T) {
	t.Parallel()
	l := &kindsLife{t: t, r: bucket.Record{Own: "A"}}
	l.take(-lifeDay, lifeSlots(), 2)
	l.r.Own = "B"
	l.take(-lifeDay+bucket.Instant(time.Minute), lifeSlots(), 2)
}

// A holder is forgotten with all that it has: one that comes back must not hold slots of a
// limit that others see as free.
func TestForgottenHolderHoldsNothing(t *testing.T) {
	t.Parallel()
	l := &kindsLife{t: t, r: bucket.Record{Own: "A"}}
	l.take(0, lifeSlots(), 2)
	m := []bucket.Charge{{Name: "m", Definition: lifeSlots(), Amount: 1}}
	for _, at := range []bucket.Instant{0, lifeDay} { // then A comes back
		l.r.Forget(at-1, m)
		if got := l.r.Take(m, at, 0, 7); got != bucket.Fits {
			t.Fatalf("got outcome %d, want it to fit", got)
		}
		l.r.Finish(bucket.Fits, m, at)
	}
	if n := l.r.State("n"); !n.Absent() {
		t.Fatalf("got %+v, want the limit to be forgotten", n)
	}
	l.r.Own = "B"
	l.take(lifeDay, lifeSlots(), 2)
}
