package loadgen

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// A Second counts what happened in one second of a load whose callers wait in line.
// A caller that came may be served, refused or leave in a later one.
type Second struct {
	Came    int64 `json:"came"`
	Served  int64 `json:"served"`
	Refused int64 `json:"refused"`
	Left    int64 `json:"left"` // gave up, or waited when the load ended
	Failed  int64 `json:"failed"`
}

func (s *Second) add(other Second) {
	s.Came += other.Came
	s.Served += other.Served
	s.Refused += other.Refused
	s.Left += other.Left
	s.Failed += other.Failed
}

// second returns second number i of the load.
func (t *Tally) second(i int) *Second {
	for len(t.Seconds) <= i {
		t.Seconds = append(t.Seconds, Second{})
	}
	return &t.Seconds[i]
}

// A queueing is a load whose callers wait in line: each comes, makes one call, and is
// gone.
type queueing struct {
	caller

	begin, end time.Time
	waiting    sync.WaitGroup
}

// run has callers come until the duration has passed or ctx is done. A caller that waits
// then leaves.
func (q *queueing) run(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, q.end)
	defer cancel()
	for {
		due, ok := q.next(ctx, time.Now())
		if !ok {
			break
		}
		entity := q.entities[q.pick(len(q.entities))]
		q.waiting.Go(func() { q.wait(ctx, entity, due) })
	}
	<-ctx.Done()
	q.waiting.Wait()
}

// wait is the life of one caller, which was due to come at an instant.
func (q *queueing) wait(ctx context.Context, entity string, due time.Time) {
	if q.job.GiveUp > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, due.Add(q.job.GiveUp))
		defer cancel()
	}
	req := q.job.request(entity)
	req.MaxWait = q.job.MaxWait
	// The deadline would have it refused at once: it leaves when its time has come.
	lease, err := q.limiter.Acquire(unannounced{ctx}, req)
	now := time.Now()
	if err == nil {
		q.clock.reached(now.UnixNano())
	}
	q.recorder.addWait(err, q.seconds(due), q.seconds(now), now.Sub(due))
	if err == nil && q.job.takesSlots() {
		if err := lease.Commit(context.WithoutCancel(ctx)); err != nil {
			q.recorder.fail(err)
		}
	}
}

// seconds returns which second of the load an instant is in.
func (q *queueing) seconds(at time.Time) int { return max(0, int(at.Sub(q.begin)/time.Second)) }

// unannounced is a context that does not tell its deadline, as a client that hangs up.
type unannounced struct{ context.Context } //nolint:containedctx // it is one

func (unannounced) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// addWait records how a caller fared.
func (r *recorder) addWait(err error, came, now int, waited time.Duration) {
	left := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if !left || errors.Is(err, zael.ErrUnavailable) {
		r.add(err, waited)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.second(came).Came++
	switch s := r.tally.second(now); {
	case err == nil:
		s.Served++
	case errors.Is(err, zael.ErrExceeded):
		s.Refused++
	case errors.Is(err, zael.ErrUnavailable):
		s.Failed++
	case left:
		s.Left++
		r.tally.Left++
	default:
		s.Failed++
	}
}
