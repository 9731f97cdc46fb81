package zael_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// Processes whose clocks differ change limits at all levels and acquire with
// limits that they remember. Two definitions of a bucket never have one revision,
// what the levels decide is in force when ConfigTTL has passed, and no change
// leaves debt, as nothing is taken beyond a burst. In some histories the entity is
// deleted: from then on a second more may pass, and no more is compared.
func TestScopesModel(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 400) {
		spread := []time.Duration{0, 3 * time.Second, time.Hour}[seed%3]
		m := newScopesModel(t, seed, spread)
		m.deletes = seed%2 == 0
		if err := m.run(60); err != nil {
			t.Fatalf("seed %d, clocks within %v: %v", seed, spread, err)
		}
	}
}

type scopesModel struct {
	context.Context //nolint:containedctx // of the test
	*rand.Rand

	store    *memstore.Store
	time     time.Duration // since t0, by no process's clock
	skews    []time.Duration
	limiters []*zael.Limiter
	key      zael.Key
	known    map[int64]bucket.Definition // by revision
	deletes  bool                        // of the entity may come
	deleted  bool
	log      []string
}

const scopesTTL = 10 * time.Second

func newScopesModel(t *testing.T, seed uint64, spread time.Duration) *scopesModel {
	t.Helper()
	m := &scopesModel{
		Context: t.Context(), Rand: rand.New(rand.NewPCG(seed, 0)), store: memstore.New(nil),
		key: zael.Key{Entity: "key-1", Resource: "gpt-4"}, known: map[int64]bucket.Definition{},
	}
	for range 3 {
		skew := time.Duration(m.Int64N(int64(2*spread)+1)) - spread
		l, err := zael.New(m.store, &zael.Config{
			ConfigTTL: scopesTTL, Clock: func() time.Time { return t0().Add(m.time + skew) },
		})
		if err != nil {
			t.Fatal(err)
		}
		m.skews, m.limiters = append(m.skews, skew), append(m.limiters, l)
	}
	return m
}

func (m *scopesModel) run(steps int) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%q", err, m.log)
		}
	}()
	for range steps {
		m.time += []time.Duration{0, time.Microsecond, time.Second, scopesTTL / 3, scopesTTL}[m.IntN(5)]
		who := m.IntN(len(m.limiters))
		switch {
		case m.deletes && m.IntN(15) == 0:
			err = m.remove(who)
		case m.IntN(3) == 0:
			err = m.change(who)
		default:
			err = m.acquire(who, m.Int64N(40))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove deletes the entity, of which the others know nothing yet.
func (m *scopesModel) remove(who int) error {
	m.note("%d deletes the entity", who)
	m.deleted = true
	if err := m.limiters[who].DeleteEntity(m, m.key.Entity); err != nil && !errors.Is(err, zael.ErrEntityNotFound) {
		return err
	}
	return nil
}

func (m *scopesModel) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%v: ", m.time)+fmt.Sprintf(format, args...))
}

// change sets or deletes limits at some level, after which what the levels decide
// is in force in all processes, when they have forgotten what they knew.
func (m *scopesModel) change(who int) error {
	scope := scopesOf(m.key)[m.IntN(4)]
	hidden, err := m.hidden(who, scope)
	if err != nil || hidden {
		return err
	}
	changes := []zael.Change{m.some(scope)}
	if m.IntN(4) == 0 {
		changes = append(changes, m.some(zael.Scope(m.key)))
	}
	m.note("%d makes %v", who, changes)
	switch l, c := m.limiters[who], changes[0]; {
	case len(changes) > 1 || m.IntN(2) == 0:
		_, err = l.Apply(m, changes)
	case c.Limits == nil:
		err = l.DeleteLimits(m, c.Scope)
	default:
		err = l.SetLimits(m, c.Scope, c.Limits)
	}
	if err != nil {
		return err
	}
	if err := m.check(); err != nil || m.IntN(3) > 0 {
		return err
	}
	m.time += scopesTTL
	if m.deleted { // a reader finds the bucket newer, and reads again a second later
		for who := range m.limiters {
			if err := m.acquire(who, 0); err != nil {
				return err
			}
		}
		m.time += time.Second
	}
	for who := range m.limiters {
		if err := m.inForce(who); err != nil {
			return err
		}
	}
	return nil
}

// some is a change of a scope.
func (m *scopesModel) some(scope zael.Scope) zael.Change {
	c := zael.Change{Scope: scope, Delete: true}
	if m.IntN(3) > 0 {
		c.Delete = false
		c.Limits = []zael.Limit{zael.PerHour("n", 1+m.Int64N(100))}
	}
	return c
}

// hidden tells whether a change would be one whose revision docs/semantics.md
// does not promise to be new: below a level that it does not look at.
func (m *scopesModel) hidden(who int, scope zael.Scope) (bool, error) {
	all := scopesOf(m.key)
	var unseen []zael.Scope
	switch scope {
	case all[1]:
		_, found, err := m.store.Buckets(m, m.latest(), []zael.Key{m.key})
		if err != nil || len(found[0].Limits) > 0 {
			return false, err
		}
		unseen = []zael.Scope{all[0], all[2]}
	case all[2]:
		unseen = all[:2]
	case all[3]:
		unseen = all[:3]
	}
	sets, err := m.store.Limits(m, unseen)
	for _, s := range sets {
		if t0().Add(m.time+m.skews[who]).UnixMicro() <= s.Rev+1 {
			return true, err
		}
	}
	return false, err
}

func scopesOf(key zael.Key) []zael.Scope {
	return []zael.Scope{zael.Scope(key), {Entity: key.Entity}, {Resource: key.Resource}, {}}
}

func (m *scopesModel) request(n int64) zael.Request {
	return zael.Request{
		Entity: m.key.Entity, Resource: m.key.Resource, UseStoredLimits: true,
		Limits: []zael.Limit{lastLevel()}, Consume: zael.Amounts{"n": n},
	}
}

func lastLevel() zael.Limit { return zael.PerHour("n", 50) }

func (m *scopesModel) acquire(who int, n int64) error {
	err := m.limiters[who].Allow(m, m.request(n))
	m.note("%d takes %d: %v", who, n, err == nil)
	if err != nil && !errors.Is(err, zael.ErrExceeded) {
		return err
	}
	return m.check()
}

// latest is the time by the clock that is ahead of all.
func (m *scopesModel) latest() time.Time {
	at := t0().Add(m.time + m.skews[0])
	for _, skew := range m.skews {
		if t := t0().Add(m.time + skew); t.After(at) {
			at = t
		}
	}
	return at
}

// check looks at the bucket: its definition is the one of its revision, and it is
// not in debt.
func (m *scopesModel) check() error {
	_, found, err := m.store.Buckets(m, m.latest(), []zael.Key{m.key})
	if err != nil || len(found[0].Limits) == 0 || m.deleted {
		return err
	}
	state := found[0].Limits[0].State
	d := state.Definition
	if before, ok := m.known[d.Rev]; ok && before != d {
		return fmt.Errorf("two definitions of one revision: %+v, %+v", before, d)
	}
	m.known[d.Rev] = d
	at, err := bucket.At(m.latest())
	if left := state.Available(at); left < 0 {
		return fmt.Errorf("%d available under %+v, want no debt", left, d)
	}
	return err
}

// inForce has a process ask, under what the levels decide.
func (m *scopesModel) inForce(who int) error {
	want := lastLevel()
	sets, err := m.store.Limits(m, scopesOf(m.key))
	if err != nil {
		return err
	}
	for _, s := range sets {
		if len(s.Limits) > 0 {
			want = s.Limits[0]
			break
		}
	}
	err = m.limiters[who].Allow(m, m.request(want.Burst+1)) // refused, and so told under which limit
	m.note("%d looks: %v", who, err)
	e, ok := errors.AsType[*zael.ExceededError](err)
	if !ok {
		return fmt.Errorf("more than the burst: got %w, want a refusal", err)
	}
	if got := e.Statuses()[0].Limit; got.String() != want.String() {
		return fmt.Errorf("in force for %d: got %v, want %v", who, got, want)
	}
	return m.acquire(who, 0)
}
