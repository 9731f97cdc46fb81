package loadgen_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/loadgen"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// inLine runs a load whose callers wait in line, in virtual time, and checks that
// nobody was lost and no more was admitted than the limits allow.
func inLine(t *testing.T, j *loadgen.Job) *loadgen.Tally {
	t.Helper()
	tally, err := loadgen.Run(t.Context(), memstore.New(nil), j, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := ideal(t, j, tally); tally.Admitted > want.Acquires {
		t.Errorf("got %d served, want %d at most", tally.Admitted, want.Acquires)
	}
	var sum loadgen.Second
	for _, s := range tally.Seconds {
		sum.Came += s.Came
		sum.Served += s.Served
		sum.Refused += s.Refused
		sum.Left += s.Left
	}
	if sum.Served != tally.Admitted || sum.Refused != tally.Refused || sum.Left != tally.Left || tally.Failed != 0 {
		t.Errorf("got %+v in the seconds, want them to add up to %+v, without errors", sum, tally.Counts)
	}
	if sum.Came != sum.Served+sum.Refused+sum.Left {
		t.Errorf("got %+v, want as many to be gone as have come", sum)
	}
	return tally
}

// TestLineOfLeavers has 100 callers a second come for 50 tokens a second and leave
// after half a second: all tokens are taken all the same.
func TestLineOfLeavers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := job(zael.PerSecond("n", 50))
		j.Rate, j.MaxWait, j.GiveUp, j.Duration = 100, 30*time.Second, 500*time.Millisecond, time.Duration(5+schedules.Count(t, 20))*time.Second
		tally := inLine(t, j)
		for i, s := range tally.Seconds[5 : j.Duration/time.Second] {
			if s.Served < 49 || s.Came < 99 || s.Came > 101 {
				t.Errorf("second %d: got %+v, want at least 49 served of 100", i+5, s)
			}
		}
		if p50 := tally.Latency().P50; p50 > 501*time.Millisecond { // three digits
			t.Errorf("got a wait of %v, want less than the callers' patience", p50)
		}
	})
}

// TestLineOfPatientCallers serves everybody if there are enough tokens, and refuses
// those whom MaxWait does not suffice.
func TestLineOfPatientCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := job(zael.PerSecond("n", 50).WithBurst(5))
		j.Rate, j.MaxWait, j.Duration = 45, 2500*time.Millisecond, 5*time.Second
		if tally := inLine(t, j); tally.Refused != 0 || tally.Left > 5 || tally.Admitted < 220 {
			t.Errorf("45 a second: got %+v, want all served but those who waited at the end", tally.Counts)
		}
		j.Rate, j.Duration = 100, 6*time.Second
		tally := inLine(t, j)
		if tally.Refused < 125 || tally.Admitted < 295 {
			t.Errorf("100 a second: got %+v, want half of them served and the others refused", tally.Counts)
		}
		if most := tally.Latency().Max; most < 2400*time.Millisecond || most > 2600*time.Millisecond {
			t.Errorf("got a longest wait of %v, want 2.5s", most)
		}
	})
}
