package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/storearg"
)

// onceLanes is how many transactions with keys are on their way at once, each of an entity of its
// own: those of one bucket would hinder each other.
const onceLanes = 64

// A lane is held by one take or adjust with a key at a time.
type lane chan struct{}

// tryEnter reports whether the lane was free, and is the caller's now.
func (l lane) tryEnter() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

// enter waits until the lane is the caller's. It reports whether it is, before ctx was done.
func (l lane) enter(ctx context.Context) bool {
	select {
	case l <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l lane) leave() { <-l }

func (s *Store) laneOf(key zael.Key) lane {
	h := fnv.New32a()
	h.Write([]byte(key.Entity))
	return s.lanes[h.Sum32()%onceLanes]
}

func newLanes() (lanes [onceLanes]lane) {
	for i := range lanes {
		lanes[i] = make(lane, 1)
	}
	return lanes
}

// TakeOnce implements zael.OnceStore. With a key, the take is a transaction under the condition
// that buckets are exactly as they were read, so that the receipts are known before. Those of one
// entity follow each other in a process.
func (s *Store) TakeOnce(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit, once zael.OnceTake) (at time.Time, first []byte, err error) {
	if once.Key != "" {
		return s.takeOnce(ctx, now, maxWait, debits, &once)
	}
	if once.Unless != "" {
		if err := errors.Join(storable.Name("OnceTake.Unless", once.Unless), ctx.Err()); err != nil {
			return now, nil, err
		}
		k, err := s.kept(ctx, now, once.Unless)
		if err == nil && k != nil {
			err = zael.ErrLeaseClosed
		}
		if err != nil {
			return now, nil, err
		}
	}
	if len(debits) == 0 {
		return now, nil, nil
	}
	at, err = s.Take(ctx, now, maxWait, debits)
	return at, nil, err
}

func (s *Store) takeOnce(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit, once *zael.OnceTake) (counted time.Time, first []byte, err error) {
	const what = "taking once"
	if !s.inflight.Begin() {
		return now, nil, errClosed
	}
	defer s.inflight.End()
	if err := errors.Join(checkOnce(now, &once.Once), s.check(ctx, debits)); err != nil {
		return now, nil, err
	}
	for i := range debits {
		for _, c := range debits[i].Charges {
			if c.Amount < 0 || c.Amount > bucket.MaxAmount {
				return now, nil, storearg.Invalid("amount of "+c.Name, c.Amount, fmt.Sprintf("is not in 0 to %d", bucket.MaxAmount))
			}
		}
	}
	if len(debits) == 0 {
		t := exactTake{store: s, now: now}
		known, err := t.read(ctx, once)
		return now, known.first(), err
	}
	l := s.laneOf(debits[0].Key)
	alone := l.tryEnter() // a repetition and a refusal need not wait
	defer func() {
		if alone {
			l.leave()
		}
	}()
	for n := 0; ; n++ {
		counted, at, err := s.clock.Instant(ctx, now)
		if err != nil {
			return now, nil, err
		}
		t := exactTake{store: s, debits: debits, now: now, at: at, maxWait: maxWait}
		known, err := t.read(ctx, once)
		if err != nil || known != nil {
			return now, known.first(), err
		}
		if err := t.plan(); err != nil {
			return counted, nil, err
		}
		if !alone {
			if alone = l.enter(ctx); !alone {
				return now, nil, s.translate(ctx, what, ctx.Err())
			}
			continue // as others have written meanwhile
		}
		keep := s.keep(now, &once.Once, once.Answer(counted, debits))
		parts := append(t.parts, types.TransactWriteItem{Update: keep})
		if once.Unless != "" {
			parts = append(parts, s.notKept(now, once.Unless))
		}
		failed, err := s.transactAnywhere(ctx, what, parts...)
		if err != nil {
			return now, nil, err
		}
		s.changed(debits)
		if failed < 0 {
			return counted, nil, nil
		}
		if n >= 10*maxRetries || pause.Backoff(ctx, n, raceBase, raceMost) != nil {
			return now, nil, s.contended(ctx, what)
		}
	}
}

// An exactTake is one try of a take with a key.
type exactTake struct {
	store   *Store
	debits  []zael.Debit
	now     time.Time
	at      bucket.Instant
	maxWait time.Duration

	records []*protocol.Record // of the debits
	parts   []types.TransactWriteItem
}

// read reads the key, the end and the buckets. It returns what is kept with the key, if that is
// known.
func (t *exactTake) read(ctx context.Context, once *zael.OnceTake) (*keptAnswer, error) {
	s := t.store
	own := s.keptKey(once.Key)
	keys := []item{own}
	if once.Unless != "" {
		keys = append(keys, s.keptKey(once.Unless))
	}
	for i := range t.debits {
		keys = append(keys, s.itemKey(t.debits[i].Key))
	}
	found, err := s.getAll(ctx, "reading buckets", keys)
	if err != nil {
		return nil, err
	}
	k, err := keptIn(found[keyOf(own)], t.now)
	switch {
	case err != nil:
		return nil, err
	case k != nil && k.hash != once.Hash:
		return nil, zael.ErrKeyUsed
	case k != nil:
		return k, nil
	}
	if once.Unless != "" {
		if ended, err := keptIn(found[keyOf(s.keptKey(once.Unless))], t.now); err != nil || ended != nil {
			return nil, errors.Join(err, zael.ErrLeaseClosed)
		}
	}
	t.records = make([]*protocol.Record, len(t.debits))
	for i := range t.debits {
		if t.records[i], err = recordOf(found[keyOf(s.itemKey(t.debits[i].Key))]); err != nil {
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // the key is not known
}

// plan makes the parts of the transaction, and writes the receipts into the charges. If the
// take comes to nothing it writes the states instead, and returns why.
func (t *exactTake) plan() error {
	s := t.store
	outcome := coalesce.Applied
	pins := make([]protocol.Pinned, len(t.debits))
	for i := range t.debits {
		d, r := &t.debits[i], t.records[i]
		if r.SettingsRev() > d.SettingsRev {
			return zael.ErrStaleSettings
		}
		if d.Bypass {
			t.parts = append(t.parts, s.inTransaction(s.countUpdate(t.now, d, 1)))
			continue
		}
		w := s.newWrite(coalesce.Batch{
			Key: d.Key, Kind: coalesce.Take, Charges: slices.Clone(d.Charges), At: t.at, MaxWait: t.maxWait,
			Settings: d.SettingsRev, Holder: d.Holder, Events: 1, ExactState: true,
		})
		w.Know(r)
		var of coalesce.Outcome
		var err error
		if pins[i], of, err = w.Pin(); err != nil {
			return err
		}
		if of != coalesce.Applied && outcome != coalesce.Stale {
			outcome = of
		}
		if of == coalesce.Applied {
			t.parts = append(t.parts, s.inTransaction(&pins[i].Update))
		}
	}
	if outcome != coalesce.Applied {
		return t.refused(outcome)
	}
	for i := range t.debits {
		d := &t.debits[i]
		if d.Bypass {
			shown := bucket.Record{Limits: t.records[i].Bucket(d.Key, t.at).Limits}
			shown.Pass(d.Charges, t.at)
			continue
		}
		for j := range d.Charges {
			c := &d.Charges[j]
			state := coalesce.StateOf(&pins[i], c)
			if state.Absent() { // asked for 0
				state = state.Redefine(c.Definition, t.at, pins[i].Birth())
			}
			if c.Receipt = state.Receipt(); !c.Definition.Plain() {
				c.State = state
			}
		}
	}
	return nil
}

// refused writes the states into the charges, and returns the error.
func (t *exactTake) refused(outcome coalesce.Outcome) error {
	for i := range t.debits {
		charges, r := t.debits[i].Charges, t.records[i]
		fillStates(charges, r)
		if outcome == coalesce.Stale {
			continue
		}
		redefineStates(charges, t.at, t.at, t.store.random())
		slotStates(charges, r, t.debits[i].Holder, t.at)
	}
	if outcome == coalesce.Stale {
		return zael.ErrStaleLimits
	}
	return zael.ErrExceeded
}
