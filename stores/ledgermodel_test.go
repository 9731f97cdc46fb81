package stores_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// A ledgerModel knows what is used of each limit of each bucket.
type ledgerModel struct {
	t        *testing.T
	rng      *rand.Rand
	l        [2]*zael.Limiter
	run      string // in the names of its entities
	used     map[zael.Key]zael.Amounts
	resets   map[zael.Key]map[string]int // how often a limit was reset
	bypassed map[zael.Key]bool
	stored   map[zael.Key]zael.Amounts // of limits that are stored, how many they let in

	remembers bool                // the stores remember refusals
	inTime    bool                // time is that of a bubble of testing/synctest
	naps      int                 // long sleeps since all rates were full: less than a token refills in 16
	network   *dynamofake.Network // nil: it does not fail
	broken    bool                // the network fails
	breaks    []*time.Timer
	open      []*modelLease
	keys      int
	log       []string
}

// A modelLease is a lease, here or detached, and what it has.
type modelLease struct {
	here     *zael.Lease
	detached *zael.DetachedLease
	parts    []*modelPart
	lost     bool      // a bucket that it has taken from is gone
	older    bool      // stored limits have changed since: more may be taken by those that it has
	deadline time.Time // of slots, of a detached lease
}

// A modelPart is what a lease has taken and used, of the buckets of one entity and its parent.
type modelPart struct {
	key         zael.Key
	parent      string
	policy      *modelPolicy
	taken, used zael.Amounts
	bypassed    map[zael.Key]bool // buckets from which nothing was taken
	chunks      map[zael.Key]map[string][]chunk
}

// A modelPolicy is a policy, its limits and those of parents.
type modelPolicy struct {
	resource    string
	own, parent []zael.Limit
	policy      *zael.Policy
	ofParents   *zael.Policy
}

func newModelPolicy(resource string, own, parent []zael.Limit) *modelPolicy {
	p := &modelPolicy{resource, own, parent, nil, zael.MustPolicy(resource, parent...)}
	p.policy = zael.Must(zael.MustPolicy(resource, own...).WithParentLimits(parent...))
	return p
}

var modelPolicies = []*modelPolicy{
	newModelPolicy("chat",
		[]zael.Limit{zael.EachYear("quota", 40), zael.AtOnce("slots", 8).Hold(hold), slowRate(30)},
		[]zael.Limit{zael.AtOnce("slots", 10).Hold(hold), zael.EachYear("total", 30), slowRate(45)}),
	newModelPolicy("tools",
		[]zael.Limit{slowRate(25), zael.EachYear("quota", 25)},
		[]zael.Limit{slowRate(30)}),
	{
		"files", storedLimits(0, 0), storedLimits(0, 0),
		zael.Must(zael.StoredPolicy("files", "quota", "slots")), zael.Must(zael.StoredPolicy("files", "quota", "slots")),
	},
}

// people are the entities: the parent of alice is team, and bob has none.
var people = []string{"alice", "bob", "team"}

func storedLimits(quota, slots int64) []zael.Limit {
	return []zael.Limit{zael.EachYear("quota", quota), zael.AtOnce("slots", slots).Hold(hold)}
}

const hold = 24 * time.Hour // of slots

// slowRate is a limit of which half refills in a year.
func slowRate(burst int64) zael.Limit {
	const year = 366 * 24 * time.Hour
	return zael.Limit{Name: "rate", Burst: burst, RefillAmount: burst / 2, RefillPeriod: year}
}

// most returns how many a limit of a bucket lets in.
func (m *ledgerModel) most(k zael.Key, l zael.Limit) int64 {
	if n, ok := m.stored[k][l.Name]; ok {
		return n
	}
	return l.Burst
}

func newLedgerModel(t *testing.T, seed uint64, l [2]*zael.Limiter) *ledgerModel {
	t.Helper()
	m := &ledgerModel{t: t, rng: rand.New(rand.NewPCG(seed, 1)), l: l, run: fmt.Sprint(seed), used: map[zael.Key]zael.Amounts{}, resets: map[zael.Key]map[string]int{}, bypassed: map[zael.Key]bool{}, stored: map[zael.Key]zael.Amounts{}}
	for _, who := range []int{2, 0, 1} { // parents first
		if err := m.create(who); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *ledgerModel) name(who string) string { return who + m.run }

func (m *ledgerModel) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *ledgerModel) limiter() *zael.Limiter { return m.l[m.rng.IntN(2)] }

// some returns amounts of some of the limits.
func (m *ledgerModel) some(names []string, most int64) zael.Amounts {
	a := zael.Amounts{}
	for _, name := range names {
		if m.rng.IntN(2) == 0 {
			a[name] = m.rng.Int64N(most + 1)
		}
	}
	return a
}

// names returns the names of the limits.
func (p *modelPart) names() []string {
	var all []string
	p.limits(func(_ zael.Key, l zael.Limit) {
		if !slices.Contains(all, l.Name) {
			all = append(all, l.Name)
		}
	})
	return all
}

// took reports whether a request took, and whether that is wrong.
func (m *ledgerModel) took(err error, fits bool) (bool, error) {
	switch {
	case err == nil && fits:
		return true, nil
	case err == nil:
		return true, errors.New("got what does not fit")
	case errors.Is(err, zael.ErrExceeded) && (!fits || m.remembers):
		return false, nil
	case m.broken && (errors.Is(err, zael.ErrUnavailable) || errors.Is(err, zael.ErrExceeded)):
		return false, nil
	}
	return false, fmt.Errorf("got %w, want it to fit: %v", err, fits)
}

// mustPlay plays, and shows the steps if something is wrong.
func (m *ledgerModel) mustPlay(steps int) {
	m.t.Helper()
	if err := m.play(steps); err != nil {
		m.t.Fatalf("%v\n%s", err, strings.Join(m.log, "\n"))
	}
}

// play makes steps, looks at the buckets now and then, and ends all leases.
func (m *ledgerModel) play(steps int) error {
	for n := range steps {
		m.fault()
		err := m.step()
		if m.repair(); err != nil {
			return err
		}
		if m.inTime {
			m.sleep(2 * time.Second) // what is remembered is a second old at most
		}
		if n%5 == 0 {
			if err := m.check(); err != nil {
				return err
			}
		}
	}
	for len(m.open) > 0 {
		if err := m.rollBack(m.open[0]); err != nil {
			return err
		}
	}
	return m.check()
}

func (m *ledgerModel) step() error {
	switch n := m.rng.IntN(21); {
	case n < 8 || len(m.open) == 0:
		return m.acquire()
	case n < 10:
		return m.unasked()
	case n < 11:
		return m.reset()
	case n < 12:
		return m.bypass()
	case n < 13:
		return m.deleteEntity(m.rng.IntN(2))
	case n < 14 && m.inTime:
		return m.later()
	case n < 15:
		k := zael.Key{Entity: m.name(people[m.rng.IntN(3)]), Resource: "files"}
		return m.setLimits(k, 10+m.rng.Int64N(20), 3+m.rng.Int64N(6))
	default:
		le := m.open[m.rng.IntN(len(m.open))]
		if le.here != nil {
			return m.use(le)
		}
		return m.useDetached(le)
	}
}

// request returns a random request and its parts.
func (m *ledgerModel) request() (req zael.Request, parts []*modelPart) {
	cascade := m.rng.IntN(2) == 0
	policies := modelPolicies[:2]
	if m.rng.IntN(3) == 0 { // stored ones are not with others in one request
		policies = modelPolicies[2:]
	}
	var taken []zael.Key // buckets
	for range 1 + m.rng.IntN(3)*m.rng.IntN(2) {
		policy := policies[m.rng.IntN(len(policies))]
		p := &modelPart{policy: policy, taken: zael.Amounts{}, chunks: map[zael.Key]map[string][]chunk{}}
		p.key = zael.Key{Entity: m.name(people[m.rng.IntN(2)]), Resource: policy.resource}
		if cascade && p.key.Entity == m.name("alice") {
			p.parent = m.name("team")
		}
		if slices.Contains(taken, p.key) {
			continue
		}
		taken = append(taken, p.key)
		amounts := m.some(p.names(), 6)
		if len(parts) == 0 {
			req = policy.policy.For(p.key.Entity)
			req.Consume, req.Cascade = amounts, cascade
			for name := range amounts {
				if !cascade && !slices.Contains(req.Policy.Names(), name) {
					delete(amounts, name)
				}
			}
		} else {
			part := policy.policy.PartFor(p.key.Entity)
			part.Consume = amounts
			req.Also = append(req.Also, part)
		}
		p.used = amounts // of the request, until it is taken
		parts = append(parts, p)
	}
	return req, parts
}

func (m *ledgerModel) acquire() error {
	req, parts := m.request()
	fits := true
	for _, p := range parts {
		fits = fits && m.fits(p, asked(p.used))
	}
	detach := m.rng.IntN(2) == 0
	m.note("acquire %s (detached %v, cascade %v)", describe(parts), detach, req.Cascade)
	le := &modelLease{parts: parts}
	var err error
	if detach {
		key, ask := m.perhapsKey()
		options := zael.DetachOptions{MaxAge: maxAge, IdempotencyKey: key}
		err = ask(func(ctx context.Context) (err error) {
			le.detached, err = m.limiter().AcquireDetached(ctx, req, options)
			return err
		})
		if key != "" && err == nil && m.rng.IntN(2) == 0 {
			m.repair()
			if le.detached, err = m.limiter().AcquireDetached(m.t.Context(), req, options); err == nil && !le.detached.Repeated() {
				return errors.New("a repetition took again")
			}
		}
	} else {
		le.here, err = m.limiter().Acquire(m.t.Context(), req)
	}
	took, err := m.took(err, fits)
	if err != nil {
		return err
	}
	if !took {
		return m.unsure(func() { m.chargeParts(parts, 1) })
	}
	for _, p := range parts {
		amounts := p.used
		p.used, p.bypassed = zael.Amounts{}, maps.Clone(m.bypassed)
		m.add(p, asked(amounts))
	}
	le.deadline = time.Now().Add(hold)
	m.open = append(m.open, le)
	return nil
}

// perhapsKey returns an idempotency key, or none, and what asks accordingly: without a key once.
func (m *ledgerModel) perhapsKey() (key string, ask func(func(context.Context) error) error) {
	if m.rng.IntN(2) == 0 {
		m.keys++
		return fmt.Sprintf("key %s %d", m.run, m.keys), m.ask
	}
	return "", func(f func(context.Context) error) error { return f(m.t.Context()) }
}

func describe(parts []*modelPart) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%v under %q: %v; ", p.key, p.parent, p.used)
	}
	return b.String()
}

// unasked charges without asking, and may give that back.
func (m *ledgerModel) unasked() error {
	req, parts := m.request()
	for i := range parts {
		delete(parts[i].used, "slots")
	}
	m.note("charge %s", describe(parts))
	_, failed := m.limiter().Charge(m.t.Context(), req)
	if err := m.charged(failed, parts, 1); err != nil || failed != nil || m.rng.IntN(2) == 0 {
		return err
	}
	m.note("and credit it")
	_, err := m.limiter().Credit(m.t.Context(), req)
	return m.charged(err, parts, -1)
}

// limitsOf returns the policy of a bucket and its limits.
func (m *ledgerModel) limitsOf(k zael.Key) (*zael.Policy, []zael.Limit) {
	for _, p := range modelPolicies {
		switch {
		case p.resource != k.Resource:
		case k.Entity == m.name("team"):
			return p.ofParents, p.parent
		default:
			return p.policy, p.own
		}
	}
	return nil, nil
}

// available returns the limits of a bucket, and what is available of them.
func (m *ledgerModel) available(l *zael.Limiter, k zael.Key) ([]zael.Limit, zael.Amounts, error) {
	policy, limits := m.limitsOf(k)
	got, err := l.Available(m.t.Context(), zael.Query{Entity: k.Entity, Policy: policy})
	return limits, got, err
}

// check compares all buckets with the sums, and looks whether leases hold their slots.
func (m *ledgerModel) check() error {
	for _, policy := range modelPolicies {
		for _, who := range people {
			k := zael.Key{Entity: m.name(who), Resource: policy.resource}
			limits, got, err := m.available(m.limiter(), k)
			if err != nil {
				return err
			}
			for _, l := range limits {
				if want := m.most(k, l) - m.used[k][l.Name]; got[l.Name] != want {
					return fmt.Errorf("%s on %s: got %d of %s available, want %d", who, policy.resource, got[l.Name], l.Name, want)
				}
			}
		}
	}
	for _, le := range m.open {
		if le.here != nil && !le.lost && !le.here.Held() {
			return fmt.Errorf("lease on %v: got Held false", le.parts[0].key)
		}
	}
	return nil
}
