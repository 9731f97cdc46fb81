package zael_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/sqlitestore"
)

// A machineClock is the clocks of a machine: time passes on both, and the wall
// clock can be set.
type machineClock struct {
	mu   sync.Mutex
	wall time.Time
	up   time.Duration
}

func newMachine() *machineClock { return &machineClock{wall: t0()} }

func (m *machineClock) Read() (time.Time, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wall, m.up
}

func (m *machineClock) Mono() time.Duration {
	_, up := m.Read()
	return up
}

// pass lets time pass.
func (m *machineClock) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wall, m.up = m.wall.Add(d), m.up+d
}

// set changes the wall clock by d.
func (m *machineClock) set(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wall = m.wall.Add(d)
}

// A process has a Limiter on the machine's clocks.
type process struct {
	*testing.T
	l   *zael.Limiter
	req zael.Request
}

// start makes a process that takes from key-1 on gpt-4.
func (m *machineClock) start(t *testing.T, store zael.Store, limit zael.Limit) *process {
	t.Helper()
	l, err := zael.NewOn(store, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return &process{t, l, ask(nil, limit)}
}

func (p *process) take(n int64) error {
	p.req.Consume = zael.Amounts{p.req.Limits[0].Name: n}
	return p.l.Allow(p.Context(), p.req)
}

func (p *process) takes(when string, n int64) {
	p.Helper()
	if err := p.take(n); err != nil {
		p.Errorf("%s: got %v, want %d tokens", when, err, n)
	}
}

// refused expects that not even one token is admitted.
func (p *process) refused(when string) {
	p.Helper()
	if err := p.take(1); !errors.Is(err, zael.ErrExceeded) {
		p.Errorf("%s: got %v, want a refusal", when, err)
	}
}

func (p *process) left(when string, want int64) {
	p.Helper()
	got, err := p.l.Available(p.Context(), queryOf(p.req))
	if err != nil || got["n"] != want {
		p.Errorf("%s: got %v available and %v, want %d", when, got, err, want)
	}
}

// clockStores are stores that count by their callers' clocks. Each function
// opens the store as another process would; memory has one process alone.
func clockStores(t *testing.T) map[string]func() zael.Store {
	t.Helper()
	memory := memstore.New(nil)
	path := filepath.Join(t.TempDir(), "zael.db")
	return map[string]func() zael.Store{
		"memory": func() zael.Store { return memory },
		"sqlite": func() zael.Store {
			s, err := sqlitestore.Open(t.Context(), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close(t.Context()) })
			return s
		},
	}
}

func perSecond(n int64) zael.Limit { return zael.PerSecond("n", n) }

// The wall clock steps back by an hour. A process that was there before and one
// that starts afterwards are admitted at once, and both go on at nine tenths of
// the pace until the wall clock has caught up.
func TestWallClockStepsBack(t *testing.T) {
	t.Parallel()
	for name, open := range clockStores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			first := m.start(t, open(), perSecond(30))
			first.takes("at 0 s", 3)
			m.pass(10 * time.Second)
			first.takes("at 10 s", 30)
			first.left("at 10 s", 0)

			m.set(-time.Hour)
			first.left("at 10 s, after the step", 0)
			second := m.start(t, open(), perSecond(30))
			second.left("at 10 s, a new process", 0)
			second.refused("at 10 s, a new process")
			m.pass(time.Second) // first notices
			first.takes("at 11 s", 30)
			second.refused("at 11 s")
			m.pass(time.Second)
			first.left("at 12 s", 27)
			second.left("at 12 s", 27)
			first.takes("at 12 s", 13)
			second.takes("at 12 s", 14)
			first.refused("at 12 s")
			second.refused("at 12 s")
			m.pass(10 * time.Second)
			second.takes("at 22 s", 30)
			first.refused("at 22 s")
			m.pass(100 * time.Millisecond)
			first.left("at 22.1 s", 2)

			// The clocks meet after ten hours, and the pace is that of the wall clock.
			m.pass(10 * time.Hour)
			first.takes("after ten hours", 30)
			m.pass(time.Second)
			first.left("a second later", 30)
			second.left("a second later", 30)
			second.takes("a second later", 30)
			m.set(time.Minute)
			m.pass(time.Second)
			first.takes("after a step forward", 30)
		})
	}
}

// A process that does nothing while another starts after the step of the wall
// clock goes on by the time that has passed, and the other catches up with what
// it finds in a bucket, in the same call.
func TestClockCatchesUpWithBucket(t *testing.T) {
	t.Parallel()
	for name, open := range clockStores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			idle := m.start(t, open(), perSecond(1))
			idle.takes("at 0 s", 1)
			m.set(-2 * time.Hour)
			m.pass(time.Hour) // 54 min by the clock of idle
			late := m.start(t, open(), perSecond(1))
			idle.takes("after an hour", 1)
			late.refused("at the same time, by the clock of the other")
			m.pass(10 * time.Second)
			late.takes("when it has refilled", 1)
			idle.refused("when it was taken")

			m.pass(time.Hour) // 54 min
			waiting := m.start(t, open(), perSecond(1))
			idle.takes("after another hour", 1)
			waiting.left("at the same time", 0)
			waiting.req.MaxWait = 2 * time.Hour
			waiting.req.Consume = zael.Amounts{"n": 1}
			lease, err := waiting.l.Reserve(t.Context(), waiting.req)
			if err != nil {
				t.Fatalf("Reserve: got %v, want a place in line", err)
			}
			if got := lease.Delay(); got != time.Second {
				t.Errorf("Reserve: got a wait of %v, want 1s", got)
			}
		})
	}
}

// A process starts from the file up to a day ahead of the wall clock. Beyond it
// there is an error that says which clock and which file.
func TestWallClockIsFarBehind(t *testing.T) {
	t.Parallel()
	for name, open := range clockStores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			running := m.start(t, open(), perSecond(10))
			running.takes("at first", 10)
			m.set(-24 * time.Hour)
			aDay := m.start(t, open(), perSecond(10))
			aDay.refused("a day behind")
			m.pass(time.Second)
			aDay.takes("a day behind, after a second", 9)

			m.set(-2 * time.Second)
			_, err := zael.NewOn(open(), nil, m)
			invalidField(t, err, "wall clock")
			want := []string{`"2026-01-12T13:59:59Z"`, "is more than a day behind", "2026-01-13T14:00:00Z", "set this machine's clock right", "memstore"}
			if name == "sqlite" {
				want[4] = "SQLite file "
			}
			for _, text := range want {
				if err != nil && !strings.Contains(err.Error(), text) {
					t.Errorf("New: got %v, want %s in it", err, text)
				}
			}
			running.left("in a process that was there", 1)
			m.pass(time.Second)
			running.takes("in a process that was there, after a second", 10)
			running.refused("in a process that was there, after a second")
		})
	}
}

// A Config.Clock is taken as it is: time that goes back gives nothing.
func TestConfigClockIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"n": 10}, perSecond(10))
	r.clock.set(time.Hour)
	r.allow(req)
	r.clock.set(0)
	if got, want := r.refused(req).RetryAfter(), time.Hour+time.Second; got != want {
		t.Errorf("retry after: got %v, want %v", got, want)
	}
	r.clock.set(time.Hour + time.Second)
	r.allow(req)
}
