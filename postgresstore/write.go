package postgresstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/enginecall"
	"github.com/zeroae/zael/internal/engineclock"
)

// A writing is the performance of a batch: an attempt, or several.
type writing struct {
	store    *Store
	batch    *batch
	deadline time.Time
	unsure   bool // a call was not answered, and may have been applied
	again    []*op

	sent  bool  // a write was sent
	id    int64 // of the last one
	tried *step // what it was to leave, in an attempt without locks
	args  arrays
	asked []*row             // the rows of args
	base  map[zael.Key]int64 // the ids of the writes before it
	locks bool               // the batch turned out to need locks
}

// wanted reports whether anybody waits for the batch.
func (w *writing) wanted() bool {
	return slices.ContainsFunc(w.batch.ops, func(o *op) bool { return o.kind == undoOp || o.stage.Load() == running })
}

// attempt makes one call, with a part of the time that is left, so that there is time for
// another one if no answer comes.
func (w *writing) attempt() error {
	left := time.Until(w.deadline)
	ctx, cancel := context.WithTimeout(w.store.life, min(max(left/2, leastAttempt), patientAttempt))
	defer cancel()
	if err := w.store.prepare(ctx); err != nil {
		return err
	}
	if w.locks || w.batch.locks {
		return w.lockAndWrite(ctx)
	}
	if w.tried == nil && w.compute() {
		return w.lockAndWrite(ctx)
	}
	if len(w.asked) == 0 {
		return nil
	}
	return w.compareAndWrite(ctx)
}

// arrays are the arguments of writeFunction that are of buckets.
type arrays struct {
	entities, resources                         []string
	expected, settings, latest, expires, births []int64
	limits, marks                               []string
	more                                        []*string
	hours                                       []*int64
	events                                      []int64
	tokens                                      []string

	// Of buckets that others write, too; else null. See offer.
	drips, rooms, adds, counts []*string
	takes, lasts               []int64
}

// onlyRead is what is expected of a bucket that is only to be read.
const onlyRead = -1

func (a *arrays) add(r *row, expected, settings int64) {
	a.entities, a.resources = append(a.entities, r.key.Entity), append(a.resources, r.key.Resource)
	a.expected, a.settings = append(a.expected, expected), append(a.settings, settings)
	a.latest, a.expires = append(a.latest, int64(r.Latest)), append(a.expires, int64(r.expires))
	a.births = append(a.births, int64(r.birth)) //nolint:gosec // the same bits
	a.limits, a.marks, a.more = append(a.limits, r.limitsText()), append(a.marks, r.marksText()), append(a.more, r.moreText())
	a.hours, a.events, a.tokens = append(a.hours, r.hourValue()), append(a.events, r.events), append(a.tokens, r.tokensText())
	a.drips, a.rooms, a.adds, a.counts = append(a.drips, nil), append(a.rooms, nil), append(a.adds, nil), append(a.counts, nil)
	a.takes, a.lasts = append(a.takes, 0), append(a.lasts, 0)
}

const writeCall = `SELECT ord, at, ` + storedColumns + ` FROM zael.write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)`

// values returns the arguments of writeCall. lock is how long locks of others are waited for.
func (a *arrays) values(s *Store, id int64, lock time.Duration, must bool) []any {
	return []any{
		s.config.Namespace, id, max(1, lock.Milliseconds()), s.config.Durability == DurabilityOff, must,
		a.entities, a.resources, a.expected, a.settings, a.latest, a.expires, a.births, a.limits, a.marks, a.more, a.hours, a.events, a.tokens,
		a.drips, a.rooms, a.adds, a.counts, a.takes, a.lasts,
	}
}

// untilDone returns how long a call may wait for the locks of others: a little less than for
// its answer.
func untilDone(ctx context.Context) time.Duration {
	d, ok := ctx.Deadline()
	if !ok {
		return patientAttempt
	}
	left := time.Until(d)
	return left - left/8
}

// lockWait is how long a batch waits for the locks of others. Ops of several buckets should not
// wait long for one of them: they are tried apart then.
func (w *writing) lockWait(ctx context.Context) time.Duration {
	wait := untilDone(ctx)
	if b := w.batch; !b.alone && len(b.rows) > 1 && len(b.ops) > 1 {
		return min(wait, sharedLockWait)
	}
	return wait
}

const sharedLockWait = 250 * time.Millisecond

// compute performs the ops on what is known of their buckets. It reports whether that needs
// locks after all. The same is sent again if no answer comes.
func (w *writing) compute() (locks bool) {
	b := w.batch
	work := make([]*row, len(b.rows))
	for i, r := range b.rows {
		work[i] = r.clone()
		work[i].refuses = r.refuses && time.Since(r.read) < remembered
	}
	t := newStep(w.store, work)
	for _, o := range b.ops {
		t.perform(o)
	}
	if len(t.usage) > 0 || b.several && !w.certain(t, work) { // usage of an hour that has ended: seldom
		w.locks = true
		return true
	}
	w.tried, w.id = t, w.store.random()
	w.base = bases(b.rows)
	for i, r := range work {
		switch known := b.rows[i]; {
		case t.changed[r]:
			if w.args.add(r, known.version(), least(b, r.key)); !b.several {
				w.offer(known, r)
			}
		case known.fresh(b):
			w.store.queue.learn(withRefusal(known, r.refuses))
			continue
		default:
			w.args.add(r, onlyRead, 0)
		}
		w.asked = append(w.asked, r)
	}
	return false
}

// certain reports whether the ops of several buckets may be written on what is known of these: no
// other process seems to write them, and what is not written has just been read.
func (w *writing) certain(t *step, work []*row) bool {
	for i, r := range work {
		if known := w.batch.rows[i]; known.isShared() || !t.changed[r] && !known.fresh(w.batch) {
			return false
		}
	}
	return !slices.ContainsFunc(w.batch.ops, func(o *op) bool {
		return o.err != nil && slices.ContainsFunc(w.batch.rows, func(r *row) bool { return o.has(r.key) && !r.fresh(w.batch) })
	})
}

// bases returns the ids of the last writes of rows.
func bases(rows []*row) map[zael.Key]int64 {
	all := make(map[zael.Key]int64, len(rows))
	for _, r := range rows {
		all[r.key] = r.version()
	}
	return all
}

// withRefusal returns r, of which nothing changes but that a take was refused.
func withRefusal(r *row, refuses bool) *row {
	c := *r
	c.refuses = refuses
	return &c
}

// fresh reports whether what is known of a bucket may be answered without asking: it was read
// since the ops of a batch came.
func (r *row) fresh(b *batch) bool {
	if r.read.IsZero() {
		return false
	}
	return !slices.ContainsFunc(b.ops, func(o *op) bool { return o.has(r.key) && !o.came.Before(r.read) })
}

// least returns the least revision of settings by which an op of a batch takes from a bucket.
func least(b *batch, key zael.Key) int64 {
	rev := int64(math.MaxInt64)
	for _, o := range b.ops {
		if o.kind != takeOp {
			continue
		}
		for i := range o.debits {
			if o.debits[i].Key == key {
				rev = min(rev, o.debits[i].SettingsRev)
			}
		}
	}
	return rev
}

// compareAndWrite writes what compute has left, each bucket if it is still as it was known, in
// one statement. The ops of others are to be performed again.
func (w *writing) compareAndWrite(ctx context.Context) error {
	s := w.store
	w.sent = true
	if done, err := w.writeOne(ctx); done || err != nil {
		return err
	}
	s.stats.calls.Add(1)
	sent := s.clock.Read()
	rows, err := s.pool.Query(ctx, s.sql(writeCall), w.args.values(s, w.id, w.lockWait(ctx), w.batch.several)...)
	if err != nil {
		return err
	}
	others, made, err := s.readWritten(rows, w.asked, sent)
	if err != nil {
		w.locks = w.batch.several && fateOf(err) == enginecall.Overtaken // another process has changed a bucket
		return err
	}
	differs := map[zael.Key]bool{}
	for i, r := range w.asked {
		switch other := others[i]; {
		case other != nil && made[i]:
			s.stats.written.Add(1)
			s.stats.offered.Add(1)
			w.settle(r, other)
		case other == nil:
			s.stats.written.Add(1)
			s.queue.learn(r.written(w.id))
		case w.differs(r, i, other):
			s.stats.changed.Add(1)
			other.shared = other.read
			s.queue.learn(other)
			differs[r.key] = true
		}
	}
	w.again = nil
	for _, o := range w.batch.ops {
		switch r := w.tried.rows[o.debits[0].Key]; {
		case !differs[r.key]:
		case w.spent(o, others[slices.Index(w.asked, r)]):
			o.err = errLost
		default:
			o.tries++
			w.again = append(w.again, o)
		}
	}
	return nil
}

const writeOneCall = `SELECT zael.write_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`

// writeOne is compareAndWrite of one bucket that is there, and that no other process seems to
// write. If done is false, it is to be asked what the bucket is.
func (w *writing) writeOne(ctx context.Context) (done bool, err error) {
	s, r := w.store, w.asked[0]
	if len(w.asked) != 1 || w.args.expected[0] <= 0 || r.isShared() {
		return false, nil
	}
	s.stats.calls.Add(1)
	sent := s.clock.Read()
	var at *time.Time
	err = s.pool.QueryRow(ctx, s.sql(writeOneCall), s.config.Namespace, w.id, max(1, untilDone(ctx).Milliseconds()), s.config.Durability == DurabilityOff,
		r.key.Entity, r.key.Resource, w.args.expected[0], int64(r.Latest), int64(r.expires),
		w.args.limits[0], r.marks(), w.args.more[0], r.hourValue(), r.events, r.tokens()).Scan(&at)
	if err != nil || at == nil {
		return false, err
	}
	s.learnTime(*at, sent)
	s.stats.written.Add(1)
	s.queue.learn(r.written(w.id))
	w.again = nil
	return true, nil
}

// differs reports whether a bucket is not as it was known. If it is, it is noted as it is now.
func (w *writing) differs(r *row, i int, other *row) bool {
	if w.args.expected[i] != onlyRead || other.version() != r.version() || other.settings != r.settings {
		return true
	}
	other.refuses = r.refuses
	w.store.queue.learn(other)
	return false
}

// spent reports whether an op that gives something back is not made again, as it may have been
// made: no answer came, and others have written the bucket so often since that its row no
// longer tells. One with a key is never spent: the key tells.
func (w *writing) spent(o *op, now *row) bool {
	if !w.unsure || o.kind != adjustOp && o.kind != undoOp || !o.once.GivenBack() || !slices.ContainsFunc(o.charges, func(c zael.Charge) bool { return c.Amount < 0 }) {
		return false
	}
	return len(now.ids) == idsKept && !slices.Contains(now.ids, w.base[now.key])
}

// errLost is the error of an op that is spent.
var errLost = fmt.Errorf("postgresstore: the answer to a change was lost, and whether it was made cannot be told: it is not made again, as it gives something back: %w", zael.ErrUnavailable)

// idsKept is how many ids of writes a bucket has.
const idsKept = 4

// written returns a row as it is after the write of an id.
func (r *row) written(id int64) *row {
	r.ids = append([]int64{id}, r.ids[:min(idsKept-1, len(r.ids))]...)
	r.read = time.Now()
	return r
}

// readWritten reads what writeFunction answers: the server's time, and the buckets that were
// not written as they were sent, in the order of asked, nil for those that were. made is set for
// those on which the takes were made as they are.
func (s *Store) readWritten(rows pgx.Rows, asked []*row, sent engineclock.Reading) (others []*row, made []bool, err error) {
	defer rows.Close()
	others, made = make([]*row, len(asked)), make([]bool, len(asked))
	for rows.Next() {
		var ord int
		var at time.Time
		var c stored
		if err := rows.Scan(append([]any{&ord, &at}, c.targets()...)...); err != nil {
			return nil, nil, err
		}
		if ord == 0 {
			s.learnTime(at, sent)
			continue
		}
		i := max(ord, -ord) - 1
		if others[i], err = c.row(asked[i].key); err != nil {
			return nil, nil, err
		}
		others[i].read, made[i] = time.Now(), ord < 0
	}
	return others, made, rows.Err()
}
