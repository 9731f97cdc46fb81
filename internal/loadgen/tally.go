package loadgen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/zeroae/zael"
)

// A Tally is what came of a load. Tallies of several processes are added; as
// JSON they keep all that they know.
type Tally struct {
	Counts
	Errors      map[string]int64 // failed calls by kind
	First, Last int64            // instants by which it was decided, ns since 1970; 0 if none was
	Cost        *Cost            // nil: the store does not tell
	admitted    histogram        // how long calls took
	refused     histogram
}

func newTally() *Tally {
	return &Tally{Errors: map[string]int64{}, admitted: newHistogram(), refused: newHistogram()}
}

// Add adds another tally of the same load.
func (t *Tally) Add(o *Tally) {
	t.Counts.add(o.Counts)
	for kind, n := range o.Errors {
		t.failed(kind, n)
	}
	if o.First != 0 && (t.First == 0 || o.First < t.First) {
		t.First = o.First
	}
	t.Last = max(t.Last, o.Last)
	t.Cost = t.Cost.and(o.Cost)
	t.admitted.Merge(o.admitted.Histogram)
	t.refused.Merge(o.refused.Histogram)
}

// Elapsed is the time between the first and the last decision.
func (t *Tally) Elapsed() time.Duration { return time.Duration(t.Last - t.First) }

// Latency is how long admitted calls took.
func (t *Tally) Latency() Latency { return t.admitted.latency() }

// RefusedLatency is how long refused calls took.
func (t *Tally) RefusedLatency() Latency { return t.refused.latency() }

// kinds is how many kinds of errors are told apart.
const kinds = 20

func (t *Tally) fail(err error) {
	t.Failed++
	t.failed(kind(err), 1)
}

func (t *Tally) failed(kind string, n int64) {
	if _, known := t.Errors[kind]; !known && len(t.Errors) >= kinds {
		kind = "others"
	}
	t.Errors[kind] += n
}

// kind names an error without what is different each time.
func kind(err error) string {
	switch {
	case errors.Is(err, zael.ErrContention):
		return "contention"
	case errors.Is(err, zael.ErrUnavailable) && errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, zael.ErrUnavailable):
		return "unavailable"
	}
	return strings.TrimPrefix(err.Error(), "zael: ")
}

// A Latency is how long calls took; 0 if there were none.
type Latency struct {
	P50, P99, P999, Max time.Duration
}

// A histogram counts durations in ns, three digits exact.
type histogram struct{ *hdrhistogram.Histogram }

const longest = time.Minute

func newHistogram() histogram {
	return histogram{hdrhistogram.New(1, int64(longest), 3)}
}

func (h histogram) record(d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, 1), longest))) // is in range
}

func (h histogram) latency() Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(share float64) time.Duration { return time.Duration(h.ValueAtPercentile(share)) }
	return Latency{P50: at(50), P99: at(99), P999: at(99.9), Max: time.Duration(h.Max())}
}

// wire is a Tally as JSON.
type wire struct {
	Counts  Counts           `json:"counts"`
	Errors  map[string]int64 `json:"errors"`
	First   int64            `json:"first"`
	Last    int64            `json:"last"`
	Took    []byte           `json:"took"` // an encoded histogram, as the next one
	Refusal []byte           `json:"refusal"`
	Cost    *Cost            `json:"cost,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (t *Tally) MarshalJSON() ([]byte, error) {
	w := wire{Counts: t.Counts, Errors: t.Errors, First: t.First, Last: t.Last, Cost: t.Cost}
	var err error
	if w.Took, err = t.admitted.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err != nil {
		return nil, err
	}
	if w.Refusal, err = t.refused.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err != nil {
		return nil, err
	}
	return json.Marshal(&w)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Tally) UnmarshalJSON(data []byte) error {
	var w wire
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*t = *newTally()
	t.Counts, t.First, t.Last, t.Cost = w.Counts, w.First, w.Last, w.Cost
	for kind, n := range w.Errors {
		t.failed(kind, n)
	}
	for _, h := range []struct {
		to   *histogram
		data []byte
	}{{&t.admitted, w.Took}, {&t.refused, w.Refusal}} {
		decoded, err := hdrhistogram.Decode(h.data)
		if err != nil {
			return fmt.Errorf("a histogram: %w", err)
		}
		h.to.Merge(decoded)
	}
	return nil
}
