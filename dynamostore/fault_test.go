package dynamostore_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/testrig/faultproxy"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// The schedules here run on the real engine, with a proxy before it that loses,
// delays and refuses: the stores of several clients on two fresh buckets, a child
// and its parent. What the clients were told is compared with what the engine
// applied, of which the proxy keeps account, and with what the buckets hold in
// the end.

const faultAtOnce = 10

// A seed gives the same faults each time; how requests interleave differs.
func TestFaultySchedules(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	seeds := make(chan uint64)
	var sum faultTally
	var last atomic.Pointer[faultWorld]
	var wg sync.WaitGroup
	for range faultAtOnce {
		wg.Go(func() {
			for seed := range seeds {
				w := newFaultWorld(t, table, seed, faultPatience(t, c, table, seed))
				err := w.run(t.Context(), c)
				sum.add(&w.tally)
				last.Store(w)
				if err != nil {
					t.Errorf("seed %d: %v\n%s", seed, err, w.text())
				}
			}
		})
	}
	begin, n := time.Now(), 0
	for seed := range schedules.Seeds(t, 30) {
		seeds <- seed
		n++
	}
	close(seeds)
	wg.Wait()
	t.Logf("%d schedules in %v: %+v", n, time.Since(begin).Round(time.Second), &sum)
	switch {
	case t.Failed():
	case n == 1:
		t.Logf("the schedule:\n%s", last.Load().text())
	default:
		sum.tells(t, n)
	}
}

// A faultTally is what the schedules were made of.
type faultTally struct {
	mu sync.Mutex

	Ops, Taken, Refused, Failed, Adjusts     int
	Requests, Late, Lost, Throttled, FiveXX  int // by what the proxy did
	LateApplied                              int // copies that arrived after their client had left, and were applied
	Doubled, Repeated, Unanswered            int
	Undone, Stranded                         int
	RefusedCharged, FailedCharged, LostGives int
	Cascades, Given, Contended, Conversions  int
	Removals                                 int // writes that removed limits
	Slots                                    int // schedules in which clients had some
}

func (t *faultTally) fields() []*int {
	return []*int{
		&t.Ops, &t.Taken, &t.Refused, &t.Failed, &t.Adjusts, &t.Requests, &t.Late, &t.Lost, &t.Throttled, &t.FiveXX, &t.LateApplied,
		&t.Doubled, &t.Repeated, &t.Unanswered, &t.Undone, &t.Stranded, &t.RefusedCharged, &t.FailedCharged, &t.LostGives, &t.Cascades, &t.Given, &t.Contended, &t.Conversions,
		&t.Removals, &t.Slots,
	}
}

func (t *faultTally) add(o *faultTally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := o.fields()
	for i, to := range t.fields() {
		*to += *from[i]
	}
}

// tells fails the test if too little happened to tell anything.
func (t *faultTally) tells(tb testing.TB, n int) {
	tb.Helper()
	for what, got := range map[string]int{
		"taken": t.Taken, "refused": t.Refused, "failed": t.Failed, "adjusts": t.Adjusts, "cascades": t.Cascades, "given": t.Given,
		"late": t.Late, "lost": t.Lost, "throttled": t.Throttled, "5xx": t.FiveXX, "repeated": t.Repeated, "undone": t.Undone, "conversions": t.Conversions, "removals": t.Removals, "slots": t.Slots,
	} {
		if got < n/10 {
			tb.Errorf("%s in %d schedules: got %d, too few to tell anything", what, n, got)
		}
	}
	for what, got := range map[string]int{
		"charged twice": t.Doubled, "late copies applied": t.LateApplied, "lost gives": t.LostGives, "failed and charged": t.FailedCharged,
	} {
		if got < n/100 {
			tb.Errorf("%s in %d schedules: got %d, too few to tell anything", what, n, got)
		}
	}
}

// fault is what happens to the n-th request of an operation on a bucket.
func (w *faultWorld) fault(what string, n int) faultproxy.Action {
	h := fnv.New64a()
	_, _ = h.Write([]byte(what))
	rng := rand.New(rand.NewPCG(w.seed, h.Sum64()+uint64(n)))
	if rng.IntN(100) >= w.faulty {
		return faultproxy.Action{}
	}
	faults := []faultproxy.Fault{
		faultproxy.LoseRequest, faultproxy.FailBefore, faultproxy.Throttle, faultproxy.ThrottleAPI, faultproxy.Hang,
		faultproxy.LateRequest, faultproxy.LateRequest, faultproxy.LateReply, faultproxy.NoReply,
		faultproxy.DropReply, faultproxy.ResetReply, faultproxy.CutReply, faultproxy.FailAfter,
	}
	// Half of what is late is too late for its client.
	return faultproxy.Action{
		Fault: faults[rng.IntN(len(faults))],
		Delay: time.Duration(rng.Float64() * 2 * float64(w.patience)),
	}
}

// opKey is where a context has the number of its operation.
type opKey struct{}

const opHeader = "X-Op"

func withOp(ctx context.Context, number int) context.Context {
	return context.WithValue(ctx, opKey{}, strconv.Itoa(number))
}

func (w *faultWorld) logf(format string, args ...any) {
	text := fmt.Sprintf("%8.1f ms ", float64(time.Since(w.begun).Microseconds())/1000) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, text)
}

func (w *faultWorld) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.trace, "\n")
}
