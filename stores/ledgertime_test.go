package stores_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

const maxAge = 30 * 24 * time.Hour // of detached leases

// TestLedgerInTime plays the model while time goes by: slots that nobody renews become free,
// quotas start over, rates refill, and leases become too old to be ended.
func TestLedgerInTime(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]struct {
		seeds int
		open  func(*testing.T) [2]zael.Store
	}{
		"memory": {50, func(*testing.T) [2]zael.Store {
			s := memstore.New(nil)
			return [2]zael.Store{s, s}
		}},
		"SQLite": {10, func(t *testing.T) [2]zael.Store {
			t.Helper()
			return twice(t, "sqlite:"+filepath.Join(t.TempDir(), "zael.db"))
		}},
		"DynamoDB": {20, func(t *testing.T) [2]zael.Store {
			t.Helper()
			n := network(1)
			return [2]zael.Store{onFake(t, n), onFake(t, n)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range schedules.Seeds(t, engine.seeds) {
				synctest.Test(t, func(t *testing.T) {
					l := twoLimiters(t, engine.open(t))
					m := newLedgerModel(t, seed, l)
					m.inTime = true
					m.mustPlay(100)
				})
			}
		})
	}
}

// network returns a table in memory behind a network.
func network(seed uint64) *dynamofake.Network {
	n := &dynamofake.Network{Table: dynamofake.New(), Latency: time.Millisecond}
	n.Seed(seed)
	return n
}

func (m *ledgerModel) sleep(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in synctest's time
}

// later lets hours go by, or years.
func (m *ledgerModel) later() error {
	m.repair()
	if m.naps < 16 && m.rng.IntN(6) > 0 { // in which less than a token refills
		m.naps++
		return m.hours()
	}
	if time.Now().Year() < 2045 { // instants of limits end in 2054
		return m.years()
	}
	return nil
}

// pass lets time go by, and slots lapse that nobody has renewed.
func (m *ledgerModel) pass(d time.Duration) {
	m.note("%v later", d)
	m.sleep(d)
	for _, le := range m.open {
		if le.detached != nil && !le.deadline.After(time.Now()) {
			m.lapse(le)
		}
	}
}

// outlastHolds lets all slots lapse that nobody renews.
func (m *ledgerModel) outlastHolds() {
	m.pass(hold + time.Hour)
	m.naps += 2
}

// hours lets slots lapse that nobody renews.
func (m *ledgerModel) hours() error {
	m.pass(hold - 4*time.Hour)
	for _, le := range slices.Clone(m.open) {
		if le.detached != nil && m.rng.IntN(2) == 0 {
			if err := m.renew(le); err != nil {
				return err
			}
		}
	}
	return nil
}

// slots calls f for each chunk of slots that a lease took.
func (le *modelLease) slots(f func(zael.Key, *chunk)) {
	for _, p := range le.parts {
		for k, all := range p.chunks {
			for i := range all["slots"] {
				f(k, &all["slots"][i])
			}
		}
	}
}

// lapsed reports whether slots of a lease were free for others, as nobody renewed them in time.
func (le *modelLease) lapsed() (lapsed bool) {
	le.slots(func(_ zael.Key, c *chunk) { lapsed = lapsed || c.lapsed && c.n > 0 })
	return lapsed
}

// lapse has slots of a lease no longer count.
func (m *ledgerModel) lapse(le *modelLease) {
	le.slots(func(k zael.Key, c *chunk) {
		if c.n > 0 && m.counted(k, "slots", *c) {
			m.charge(k, "slots", -c.n)
			c.lapsed = true
		}
	})
}

// revived finds out whether slots of a lease count again, now that they were renewed too late: of
// each bucket all, or none as others have taken them.
func (m *ledgerModel) revived(le *modelLease) error {
	lapsed := map[zael.Key]int64{}
	le.slots(func(k zael.Key, c *chunk) {
		if c.lapsed && c.resets == m.resets[k]["slots"] {
			lapsed[k] += c.n
		}
	})
	for k, n := range lapsed {
		limits, available, err := m.available(m.l[0], k)
		if err != nil {
			return err
		}
		var want int64 // if none count
		for _, l := range limits {
			if l.Name == "slots" {
				want = m.most(k, l) - m.used[k]["slots"]
			}
		}
		switch got := available["slots"]; {
		case got == want-n && (got >= 0 || le.older):
			m.charge(k, "slots", n)
			le.slots(func(of zael.Key, c *chunk) { c.lapsed = c.lapsed && of != k })
		case got != want:
			return fmt.Errorf("renewed %d lapsed slots of %v: got %d available, want %d or so many less", n, k, got, want)
		}
	}
	return nil
}

// years lets all refill. Leases that left their process are too old then.
func (m *ledgerModel) years() error {
	years := 1
	for k := range m.used {
		_, limits := m.limitsOf(k)
		for _, l := range limits {
			if l.Kind() == zael.KindRate {
				years = max(years, 2+int(m.used[k][l.Name]/l.RefillAmount))
			}
		}
	}
	if m.rng.IntN(4) > 0 { // slots are renewed all that time otherwise
		if err := m.endHolders(m.name("alice"), m.name("bob"), m.name("team")); err != nil {
			return err
		}
	}
	m.note("%d years later", years)
	m.sleep(time.Duration(years) * 366 * 24 * time.Hour)
	m.naps = 0
	for _, le := range slices.Clone(m.open) {
		if le.detached == nil {
			continue
		}
		if _, err := m.limiter().EndDetached(m.t.Context(), le.detached, zael.Ending{Verb: zael.LeaseRollback}); !errors.Is(err, zael.ErrLeaseExpired) {
			return fmt.Errorf("end of a lease that is years old: got %w", err)
		}
		m.lapse(le)
		m.closed(le)
	}
	for k := range m.used {
		_, limits := m.limitsOf(k)
		m.fill(k, slices.DeleteFunc(slices.Clone(limits), func(l zael.Limit) bool { return l.Kind() == zael.KindSlots }))
	}
	return nil
}

// endHolders ends leases of this process that hold slots of entities.
func (m *ledgerModel) endHolders(entities ...string) error {
	for _, le := range slices.Clone(m.open) {
		holds := false
		le.slots(func(k zael.Key, c *chunk) { holds = holds || slices.Contains(entities, k.Entity) && c.n > 0 })
		if holds && le.here != nil {
			if err := m.rollBack(le); err != nil {
				return err
			}
		}
	}
	return nil
}
