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

// A Tally has the results of a load. Those of several processes can be added, and
// nothing is lost in JSON.
type Tally struct {
	Counts
	Errors      map[string]int64 // failed calls by kind
	First, Last int64            // instants of the first and last decision, in ns since 1970; 0 if there is none
	Cost        *Cost            // nil if the store does not count it
	Seconds     []Second         // of a load whose callers wait in line
	admitted    histogram        // latencies
	refused     histogram
}

func newTally() *Tally {
	return &Tally{Errors: map[string]int64{}, admitted: newHistogram(), refused: newHistogram()}
}

// Add adds another tally of the same load.
func (t *Tally) Add(other *Tally) {
	t.Counts.add(other.Counts)
	for kind, n := range other.Errors {
		t.addErrors(kind, n)
	}
	if other.First != 0 && (t.First == 0 || other.First < t.First) {
		t.First = other.First
	}
	t.Last = max(t.Last, other.Last)
	t.Cost = t.Cost.plus(other.Cost)
	for i, s := range other.Seconds {
		t.second(i).add(s)
	}
	t.admitted.Merge(other.admitted.Histogram)
	t.refused.Merge(other.refused.Histogram)
}

// Elapsed returns the time between the first and the last decision.
func (t *Tally) Elapsed() time.Duration { return time.Duration(t.Last - t.First) }

// Latency returns how long admitted calls took.
func (t *Tally) Latency() Latency { return t.admitted.latency() }

// RefusedLatency returns how long refused calls took.
func (t *Tally) RefusedLatency() Latency { return t.refused.latency() }

// maxErrorKinds is how many kinds of errors are counted separately.
const maxErrorKinds = 20

func (t *Tally) addErrors(kind string, n int64) {
	if _, known := t.Errors[kind]; !known && len(t.Errors) >= maxErrorKinds {
		kind = "others"
	}
	t.Errors[kind] += n
}

func (t *Tally) failed(err error) {
	t.Failed++
	t.addErrors(errorKind(err), 1)
}

// errorKind returns a name for an error, without the details of one call where it can.
func errorKind(err error) string {
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

// A Latency has quantiles of how long calls took; 0 if there were none.
type Latency struct {
	P50, P99, P999, Max time.Duration
}

// A histogram counts durations in ns, to three digits.
type histogram struct{ *hdrhistogram.Histogram }

const maxLatency = time.Minute

func newHistogram() histogram {
	return histogram{hdrhistogram.New(1, int64(maxLatency), 3)}
}

func (h histogram) record(d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, 1), maxLatency))) // in range
}

func (h histogram) latency() Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(percentile float64) time.Duration { return time.Duration(h.ValueAtPercentile(percentile)) }
	return Latency{P50: at(50), P99: at(99), P999: at(99.9), Max: time.Duration(h.Max())}
}

// A tallyJSON is a Tally as JSON.
type tallyJSON struct {
	Counts   Counts           `json:"counts"`
	Errors   map[string]int64 `json:"errors"`
	First    int64            `json:"first"`
	Last     int64            `json:"last"`
	Admitted []byte           `json:"admitted"` // encoded histograms
	Refused  []byte           `json:"refused"`
	Cost     *Cost            `json:"cost,omitempty"`
	Seconds  []Second         `json:"seconds,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (t *Tally) MarshalJSON() ([]byte, error) {
	w := tallyJSON{Counts: t.Counts, Errors: t.Errors, First: t.First, Last: t.Last, Cost: t.Cost, Seconds: t.Seconds}
	var err error
	if w.Admitted, err = t.admitted.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err != nil {
		return nil, err
	}
	if w.Refused, err = t.refused.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err != nil {
		return nil, err
	}
	return json.Marshal(&w)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Tally) UnmarshalJSON(data []byte) error {
	var w tallyJSON
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*t = *newTally()
	t.Counts, t.First, t.Last, t.Cost, t.Seconds = w.Counts, w.First, w.Last, w.Cost, w.Seconds
	for kind, n := range w.Errors {
		t.addErrors(kind, n)
	}
	for _, h := range []struct {
		to   *histogram
		data []byte
	}{{&t.admitted, w.Admitted}, {&t.refused, w.Refused}} {
		decoded, err := hdrhistogram.Decode(h.data)
		if err != nil {
			return fmt.Errorf("decoding a histogram: %w", err)
		}
		h.to.Merge(decoded)
	}
	return nil
}
