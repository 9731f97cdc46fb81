package redisstore

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/trial"
)

// What the tests look at of the inside.

// OwnNamespace returns the name of the store's namespace.
func (s *Store) OwnNamespace() string { return s.config.Namespace }

// Readable reads a hash and writes it again, and reports whether it could be read.
func Readable(fields []string) (again []string, ok bool) {
	r, err := readRecord(fields)
	if err != nil {
		return nil, false
	}
	kept := r.kept("holder", 0)
	for i := range kept.Limits {
		l := &kept.Limits[i]
		again = limitFields(again, l, nil)
		_ = l.State.Available(0)
		_ = l.State.WaitIdle(0)
	}
	for i := range kept.Holders {
		again = append(again, string(holderField)+kept.Holders[i].ID, holderText(&kept.Holders[i]))
	}
	return again, true
}

// An Unfinished is what a process leaves of a call by a key in a cluster that dies within it.
type Unfinished struct{ take, settle func() error }

// Take takes from the buckets, as the process does that was not dead but slow.
func (u *Unfinished) Take() error { return u.take() }

// Settle is its last step.
func (u *Unfinished) Settle() error { return u.settle() }

// ErrLostClaim is what it gets when another process was faster.
var ErrLostClaim = errLostClaim

// ClaimLasts is after what time that is so.
const ClaimLasts = claimLasts

// BeginTake makes the first step of a take by a key.
func (s *Store) BeginTake(ctx context.Context, now time.Time, debits []zael.Debit, once *zael.OnceTake) (*Unfinished, error) {
	t, id := s.keyedTake(now, debits, once), newID()
	_, err := s.claim(ctx, &t.once, id, claimsTake, t.debits)
	return &Unfinished{
		take:   func() error { return t.takeAll(ctx, id) },
		settle: func() error { return s.settle(ctx, &t.once, id, []byte("late")) },
	}, err
}

func (s *Store) keyedTake(now time.Time, debits []zael.Debit, once *zael.OnceTake) *keyedTake {
	at, err := bucket.At(now)
	if err != nil {
		panic(err)
	}
	o, err := s.newOnce(now, &once.Once)
	if err != nil {
		panic(err)
	}
	if o.answer = once.Answer; once.Unless != "" {
		o.unless = s.keys.once(once.Unless)
	}
	return &keyedTake{store: s, now: now, at: at, debits: cloned(debits), once: *o, begun: time.Now()}
}

// TakeAsEnding takes for a lease that has ended since it was looked at.
func (s *Store) TakeAsEnding(ctx context.Context, now time.Time, debits []zael.Debit, once *zael.OnceTake) error {
	return s.keyedTake(now, debits, once).unlessEnded(ctx)
}

// BeginAdjust makes the first step of an adjust by a key, and the second of the first debit.
func (s *Store) BeginAdjust(ctx context.Context, now time.Time, debits []zael.Debit, once *zael.Once, answer string) error {
	o, err := s.newOnce(now, once)
	if err != nil {
		return err
	}
	o.any, o.answer = true, func(time.Time, []zael.Debit) []byte { return []byte(answer) }
	at, err := bucket.At(now)
	if err != nil {
		return err
	}
	id := newID()
	if _, err := s.claim(ctx, o, id, claimsAdjust, debits); err != nil {
		return err
	}
	mark, _ := s.keys.marks(debits[0].Key.Entity, id)
	return s.adjustTogether(ctx, at, cloned(debits[:1]), &onceWrite{key: mark, any: true, now: now, until: once.Until, answer: o.answer})
}

// CallContext returns the context of one call of a script.
func (s *Store) CallContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return s.callContext(ctx)
}

// NewInCluster is NewTrial on a cluster, which Open makes a client of.
func NewInCluster(client rueidis.Client, config *Config, options trial.Options) (*Store, error) {
	s, err := NewTrial(client, config, options)
	if err == nil {
		s.cluster = true
	}
	return s, err
}
