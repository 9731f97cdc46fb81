package replay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// progressEvery is in rows; the context is looked at as often.
const progressEvery = 1024

// An engine asks a Limiter for each row and keeps the statistics.
type engine struct {
	o       *Options
	limiter *zael.Limiter
	now     time.Time // virtual
	request zael.Request
	settle  zael.Amounts // nil if nothing is settled

	limits   []limit
	entities map[string]*entity
	one      *entity // without an entity column
	series   series
	waits    *waits

	rows, admitted  int64
	refusedEntities int64
	firstAt, lastAt bucket.Instant
	refused         []bool // by limit, of the row at hand
	level           func(limit int, at bucket.Instant) int64
}

// A limit is what a run knows of one of the limits.
type limit struct {
	need
	name                      string
	settles                   bool
	drip, ahead               int64 // at the row at hand, and at the end of its wait
	mark                      int64 // the highest of all entities, if used
	used                      bool
	demand, admitted, refused int64
	peak                      int64 // the highest level, in units
}

// An entity is one column of buckets.
type entity struct {
	id      string
	refused bool // ever
	buckets []oneBucket
}

// A oneBucket is one limit of one entity.
type oneBucket struct {
	track
	real     int64 // mark as the store has it, if realUsed
	realUsed bool
}

// storeTimeout is what a row leaves the store: nobody waits for the answer, so a
// store that is slow for a while does not end the run.
const storeTimeout = 30 * time.Second

func newEngine(store zael.Store, o *Options) (*engine, error) {
	e := &engine{
		o:        o,
		entities: map[string]*entity{},
		series:   series{n: len(o.Limits)},
		waits:    newWaits(o.MaxWait),
		refused:  make([]bool, len(o.Limits)),
	}
	var err error
	e.limiter, err = zael.New(store, &zael.Config{Clock: func() time.Time { return e.now }, Timeout: storeTimeout})
	if err != nil {
		return nil, err
	}
	e.request = zael.Request{
		Entity: DefaultEntity, Resource: o.Resource, Limits: o.Limits,
		Consume: zael.Amounts{}, MaxWait: o.MaxWait,
	}
	if o.Resource == "" {
		e.request.Resource = DefaultResource
	}
	for _, l := range o.Limits {
		_, settles := o.Settle[l.Name]
		e.limits = append(e.limits, limit{need: newNeed(l, o.MaxWait), name: l.Name, settles: settles})
		if settles && e.settle == nil {
			e.settle = zael.Amounts{}
		}
	}
	e.level = func(limit int, at bucket.Instant) int64 {
		l := &e.limits[limit]
		if !l.used {
			return 0
		}
		return max(0, l.mark-l.def.Drip(at))
	}
	return e, nil
}

// runInOrder takes the rows as they come.
func (e *engine) runInOrder(ctx context.Context, t *trace) error {
	last := bucket.Instant(0)
	for n := 0; ; n++ {
		r, err := t.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 && r.at < last {
			e := &RowError{Reason: fmt.Sprintf("%s is before the row above it (%s)", timeText(r.at), timeText(last)), Remedy: "use --sort"}
			e.Line, e.Column = t.rows.position(t.time)
			return e
		}
		last = r.at
		if err := e.row(ctx, t, r); err != nil {
			return err
		}
	}
}

// runSorted reads all rows and takes them by time.
func (e *engine) runSorted(ctx context.Context, t *trace) error {
	type stored struct {
		at     bucket.Instant
		line   int
		entity string
	}
	var rows []stored
	var order []int
	var amounts []int64 // take and settle of each row
	names := map[string]string{}
	n := len(e.limits)
	for {
		r, err := t.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(rows)%progressEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		name, ok := names[r.entity]
		if !ok {
			name = strings.Clone(r.entity)
			names[name] = name
		}
		order = append(order, len(rows))
		rows = append(rows, stored{r.at, r.line, name})
		amounts = append(append(amounts, r.take...), r.settle...)
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(min(1, max(-1, rows[a].at-rows[b].at))) })
	for _, i := range order {
		a := amounts[i*2*n : (i+1)*2*n]
		r := request{line: rows[i].line, at: rows[i].at, entity: rows[i].entity, take: a[:n], settle: a[n:]}
		if err := e.row(ctx, t, &r); err != nil {
			return err
		}
	}
	return nil
}

// row asks for one row and counts what comes of it.
func (e *engine) row(ctx context.Context, t *trace, r *request) error {
	if e.rows%progressEvery == 0 {
		if e.o.Progress != nil {
			e.o.Progress(e.rows)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	who := e.entity(t, r)
	e.now = r.at.Time()
	for i := range e.limits {
		l := &e.limits[i]
		l.drip = l.def.Drip(r.at)
		l.ahead = l.drip
		if l.wait > 0 {
			l.ahead = l.def.Drip(r.at.Add(l.wait))
		}
		e.request.Consume[l.name] = r.take[i]
		if l.settles {
			e.settle[l.name] = r.settle[i]
		}
		e.refused[i] = false
	}
	admitted, delay, err := e.ask(ctx)
	if invalid, ok := errors.AsType[*zael.ValidationError](err); ok && invalid.Field == "Request.Entity" {
		who.id = hashed(who.id)
		e.request.Entity = who.id
		admitted, delay, err = e.ask(ctx)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", r.line, err)
	}
	if e.rows == 0 {
		e.firstAt = r.at
	}
	e.lastAt = r.at
	e.rows++
	b, uses := e.series.at(r.at, e.level)
	b.requests++
	if admitted {
		e.admitted++
		b.admitted++
		if delay > 0 {
			b.waited++
			e.waits.add(delay)
		}
	} else if !who.refused {
		who.refused = true
		e.refusedEntities++
	}
	for i := range e.limits {
		e.count(i, r, &who.buckets[i], &uses[i], admitted)
	}
	return nil
}

// count is row for one limit.
func (e *engine) count(i int, r *request, b *oneBucket, u *use, admitted bool) {
	l := &e.limits[i]
	take, settle := r.take[i], r.settle[i]
	l.add(&b.track, r.at, l.drip, l.ahead, take, settle)
	l.demand = saturate.Add(l.demand, settle)
	u.demand = saturate.Add(u.demand, settle)
	if e.refused[i] {
		l.refused++
		u.refused++
	}
	if !admitted {
		return
	}
	l.admitted = saturate.Add(l.admitted, settle)
	u.admitted = saturate.Add(u.admitted, settle)
	if settle == 0 {
		return
	}
	mark := l.drip
	if b.realUsed {
		mark = max(mark, b.real)
	}
	b.real, b.realUsed = mark+settle*l.unit, true // the store has checked that it fits
	if !l.used || b.real > l.mark {
		l.mark, l.used = b.real, true
	}
	level := b.real - l.drip
	u.level = max(u.level, level)
	l.peak = max(l.peak, level)
}

// entity finds who a row is of, and asks for him next.
func (e *engine) entity(t *trace, r *request) *entity {
	if t.entity < 0 {
		if e.one == nil {
			e.one = e.newEntity(DefaultEntity)
		}
		return e.one
	}
	who, ok := e.entities[r.entity]
	if !ok {
		name := strings.Clone(r.entity)
		who = e.newEntity(name)
		e.entities[name] = who
	}
	e.request.Entity = who.id
	return who
}

// hashed returns a valid id for a name in the trace that is none.
func hashed(name string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(name))) }

func (e *engine) newEntity(id string) *entity {
	return &entity{id: id, buckets: make([]oneBucket, len(e.limits))}
}

// ask is the request itself, through the Limiter.
func (e *engine) ask(ctx context.Context) (admitted bool, delay time.Duration, err error) {
	if e.settle == nil && e.request.MaxWait == 0 {
		return e.answer(e.limiter.Allow(ctx, e.request))
	}
	lease, err := e.limiter.Reserve(ctx, e.request)
	if err != nil {
		return e.answer(err)
	}
	if e.settle != nil {
		if err := lease.Settle(e.settle); err != nil {
			return false, 0, err
		}
	}
	return true, lease.Delay(), lease.Commit(ctx)
}

// answer sorts refusals from failures and notes who refused.
func (e *engine) answer(err error) (bool, time.Duration, error) {
	var exceeded *zael.ExceededError
	if !errors.As(err, &exceeded) {
		return err == nil, 0, err
	}
	for i := range exceeded.Statuses {
		s := &exceeded.Statuses[i]
		for j := range e.limits {
			if s.Exceeded && s.Limit.Name == e.limits[j].name {
				e.refused[j] = true
			}
		}
	}
	return false, 0, nil
}

func timeText(at bucket.Instant) string {
	return at.Time().Format("2006-01-02T15:04:05.999999999Z07:00")
}
