package sqlitestore_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/sqlitestore"
)

// A bucket is read as it was written.
func TestStateRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := sqlitestore.Row{
			Latest: rapid.Int64().Draw(t, "latest"),
			Events: rapid.Int64().Draw(t, "events"),
			Limits: rapid.SliceOfN(rapid.Custom(drawLimit), 0, 5).Draw(t, "limits"),
		}
		got, err := sqlitestore.DecodeRow(sqlitestore.EncodeRow(r))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("got %+v and %v, want %+v", got, err, r)
		}
	})
}

func drawLimit(t *rapid.T) sqlitestore.RowLimit {
	d := bucket.Definition{
		Burst:  rapid.Int64Range(1, bucket.MaxAmount).Draw(t, "burst"),
		Amount: rapid.Int64Range(1, bucket.MaxAmount).Draw(t, "amount"),
		Period: time.Duration(rapid.Int64Range(int64(bucket.MinPeriod), int64(bucket.MaxPeriod)).Draw(t, "period")),
		Rev:    rapid.Int64Range(0, math.MaxInt64).Draw(t, "rev"),
	}
	if rapid.Bool().Draw(t, "plain") {
		d.Burst, d.Period = d.Amount, d.Period.Truncate(time.Second)
	}
	d.Capacity = rapid.SampledFrom([]int64{1, d.Burst, min(d.Burst, d.Amount)}).Draw(t, "capacity")
	if d.Validate() != nil { // too fast
		d.Period = bucket.MaxPeriod
	}
	l := sqlitestore.RowLimit{
		LimitState: zael.LimitState{
			Name: rapid.String().Draw(t, "name"),
			State: bucket.State{
				Definition: d,
				Mark:       rapid.Int64().Draw(t, "mark"),
				Generation: rapid.Uint64().Draw(t, "generation"),
			},
		},
		Counted: rapid.Bool().Draw(t, "counted"),
	}
	if l.Counted {
		l.Used = rapid.Int64().Draw(t, "used")
	}
	if rapid.Bool().Draw(t, "was overdrawn") {
		l.Overdrawn = rapid.Int64().Draw(t, "overdrawn")
	}
	return l
}

// Decoding any bytes returns a bucket or an error.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0})
	f.Add(sqlitestore.EncodeRow(sqlitestore.Row{Limits: []sqlitestore.RowLimit{
		{LimitState: zael.LimitState{Name: "rpm", State: bucket.State{Definition: thousand, Mark: 1, Generation: 2}}, Used: 3, Counted: true},
	}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := sqlitestore.DecodeRow(b)
		if err != nil {
			return
		}
		again, err := sqlitestore.DecodeRow(sqlitestore.EncodeRow(r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%x: got %+v and %v the second time, want %+v", b, again, err, r)
		}
		for _, l := range r.Limits {
			if err := l.State.Definition.Validate(); err != nil {
				t.Errorf("%x: got a definition with %v", b, err)
			}
		}
	})
}
