package loadgen_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/loadgen"
	"github.com/zeroae/zael/memstore"
)

// TestKinds puts load on limits of each kind, by a job that another process was sent.
func TestKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit   string
		consume int64
		exact   bool  // as much is admitted as is ideal
		ideal   int64 // acquires; 0: all
	}{
		{"n=700 each year", 3, true, 233},
		{"n=700 per 1h from first use", 1, true, 700},
		{"n=700 each second", 1, true, 700}, // in less than a second
		{"n=0/min", 1, true, -1},
		{"n=unlimited", 1, false, 0},
		{"n=5 each day soft", 1, false, 0},
		{"n=8 at once", 1, false, 0},
	} {
		t.Run(c.limit, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				limit, err := zael.ParseLimit(c.limit)
				if err != nil {
					t.Fatal(err)
				}
				sent := job(limit)
				sent.Rate, sent.Consume["n"] = 2_500, c.consume
				text, err := json.Marshal(sent) //nolint:musttag // as between processes
				if err != nil {
					t.Fatal(err)
				}
				j := new(loadgen.Job)
				if err := json.Unmarshal(text, j); err != nil { //nolint:musttag // as above
					t.Fatal(err)
				}
				store := memstore.New(nil)
				tally, err := loadgen.Run(t.Context(), store, j, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := ideal(t, j, tally).Acquires
				switch {
				case tally.Failed != 0:
					t.Errorf("got errors %v", tally.Errors)
				case c.exact && (tally.Admitted != max(0, c.ideal) || want != tally.Admitted || tally.Refused == 0):
					t.Errorf("got %d admitted and %d refused, ideal %d, want %d", tally.Admitted, tally.Refused, want, max(0, c.ideal))
				case !c.exact && (tally.Refused != 0 || tally.Admitted < 990 || want < tally.Admitted):
					t.Errorf("got %d admitted and %d refused, ideal %d, want all", tally.Admitted, tally.Refused, want)
				}
				_, buckets, err := store.Buckets(t.Context(), time.Now(), []zael.Key{{Entity: j.Entity(0), Resource: j.Resource}})
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range buckets[0].Limits {
					if limit.Kind() == zael.KindSlots && l.State.Used != 0 {
						t.Errorf("%d slots are held after the load, want none", l.State.Used)
					}
				}
			})
		})
	}
}

// TestLineForSlots has callers wait for slots, which those before them release.
func TestLineForSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := job(zael.AtOnce("n", 1))
		j.Rate, j.MaxWait = 100, j.Duration
		tally, err := loadgen.Run(t.Context(), memstore.New(nil), j, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tally.Failed != 0 || tally.Admitted < 35 || tally.Left > 1 {
			t.Errorf("got %d admitted, %d left and errors %v, want nearly all 40 admitted", tally.Admitted, tally.Left, tally.Errors)
		}
	})
}
