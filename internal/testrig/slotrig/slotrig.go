// Package slotrig has processes on one store that hold slots, some of which are killed while they
// do.
package slotrig

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

const (
	atOnce    = 20
	hold      = 10 * time.Second
	processes = 8
	killed    = 3
	callers   = 6   // of a process
	times     = 100 // that a process acquires, or before it is killed
)

func policy() *zael.Policy {
	return zael.MustPolicy("gpt-4", zael.PerSecond("rps", 1e6), zael.AtOnce("parallel", atOnce).Hold(hold))
}

// Serve is what a process that holds slots does: it waits for a line that says how often, acquires
// slots of the store, and writes when it begins and ends to hold each.
func Serve(ctx context.Context, store zael.Store) error {
	l, err := zael.New(store, &zael.Config{Timeout: time.Hour})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var times int64
	if _, err := fmt.Fscanln(os.Stdin, &times); err != nil {
		return err
	}
	var next atomic.Int64
	errs := make([]error, callers, callers+1)
	p := policy()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := next.Add(1); n <= times && errs[i] == nil; n = next.Add(1) {
				errs[i] = holdOnce(ctx, l, p, n)
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, l.Close(ctx))...)
}

// holdOnce holds 1 to 3 slots for a moment: however slow the machine is, for about as long as it
// took to get them, so that many are held at once.
func holdOnce(ctx context.Context, l *zael.Limiter, p *zael.Policy, n int64) error {
	count := 1 + n%3
	upTo := func(most time.Duration) error { return pause.For(ctx, time.Duration(rand.Int64N(int64(most)))) }
	for refused := 1; ; refused++ {
		asked := time.Now()
		lease, err := l.Acquire(ctx, p.For("key-1", 1, count))
		moment := max(5*time.Millisecond, 2*time.Since(asked))
		if errors.Is(err, zael.ErrExceeded) || errors.Is(err, zael.ErrContention) {
			if err := upTo(moment * time.Duration(min(refused, 20))); err != nil { // the slots of the dead are held for long
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		begin := time.Now().UnixNano()
		if !lease.Held() {
			begin = 0 // by the promise it does not count
		}
		fmt.Println("+", n, count, begin)
		if err := upTo(moment); err != nil {
			return err
		}
		fmt.Println("-", n, count, time.Now().UnixNano())
		if err := lease.Settle(zael.Amounts{"rps": n % 3}); err != nil {
			return err
		}
		if err := lease.Commit(ctx); err != nil {
			return err
		}
		return nil
	}
}

// A event is that a process begins or ends to hold slots.
type event struct {
	at    int64 // ns since 1970
	delta int64
}

// A process holds slots.
type process struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Scanner
	events   []event
	holds    map[int64]int64 // by number of the acquire
	acquires int
	end      int64 // when it was killed
	ended    int64 // when it had ended, of one that was killed
}

// Run starts processes by command, has them hold slots, kills some while they do, and
// checks that no more than the limit were held at any instant, and that all are free
// within the hold of the kill. store is on the same data.
func Run(t *testing.T, command func() *exec.Cmd, store zael.Store) {
	t.Helper()
	all := make([]*process, processes)
	for i := range all {
		all[i] = start(t, command())
	}
	times := max(4*callers, schedules.Count(t, times))
	for i, p := range all {
		n := times
		if i < killed {
			n = math.MaxInt
		}
		if _, err := fmt.Fprintln(p.in, n); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			kill := 0
			if i < killed {
				kill = times
			}
			if err := p.follow(kill); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var events []event
	last := int64(0) // when all that were killed had ended
	left := 0
	for i, p := range all {
		for _, n := range p.holds {
			events, left = append(events, event{p.end, -n}), left+1
		}
		if events = append(events, p.events...); i < killed {
			last = max(last, p.ended)
		} else if p.acquires != times {
			t.Errorf("process %d: got %d acquires, want %d", i, p.acquires, times)
		}
	}
	slices.SortFunc(events, func(a, b event) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.delta, b.delta)) })
	held, most := int64(0), int64(0)
	for _, e := range events {
		held += e.delta
		most = max(most, held)
	}
	if most > atOnce || most < atOnce/2 {
		t.Errorf("held at once: got up to %d, want up to %d", most, atOnce)
	}
	if left == 0 {
		t.Error("no process was killed while it held slots")
	}
	t.Logf("up to %d held at once; %d leases of killed processes", most, left)
	freed(t, store, time.Unix(0, last))
}

// freed takes all slots, when those of the killed processes are free.
func freed(t *testing.T, store zael.Store, death time.Time) {
	t.Helper()
	l, err := zael.New(store, &zael.Config{Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	const slack = 1500 * time.Millisecond // of the clocks of an engine
	for {
		begun := time.Now()
		lease, err := l.Acquire(t.Context(), policy().For("key-1", 1, atOnce))
		if err == nil {
			if err := lease.Commit(t.Context()); err != nil {
				t.Error(err)
			}
			break
		}
		refusal, ok := errors.AsType[*zael.ExceededError](err)
		if !ok {
			t.Fatal(err)
		}
		if by, most := begun.Add(refusal.RetryAfter()), death.Add(hold+slack); by.After(most) {
			t.Fatalf("all slots are free %v after the last process died, want %v at most", by.Sub(death), hold)
		}
		if err := pause.For(t.Context(), refusal.RetryAfter()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, holds: map[int64]int64{}}
	cmd.Stderr = os.Stderr
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if !p.out.Scan() || p.out.Text() != "ready" {
		t.Fatalf("a process's first line: got %q, want ready", p.out.Text())
	}
	return p
}

// follow reads what a process says, and kills it when it has acquired so many times and holds
// slots, if that is not 0.
func (p *process) follow(kill int) error {
	for p.out.Scan() {
		var sign string
		var n, count, at int64
		if _, err := fmt.Sscan(p.out.Text(), &sign, &n, &count, &at); err != nil {
			return fmt.Errorf("line %q: %w", p.out.Text(), err)
		}
		switch {
		case sign == "-" && p.holds[n] > 0:
			p.events = append(p.events, event{at, -count})
			delete(p.holds, n)
		case sign == "+" && at > 0:
			p.events = append(p.events, event{at, count})
			p.holds[n] = count
		}
		if sign == "+" {
			p.acquires++
		}
		if kill > 0 && p.end == 0 && p.acquires >= kill && len(p.holds) >= callers/2 {
			p.end = time.Now().UnixNano()
			if err := p.cmd.Process.Kill(); err != nil { // SIGKILL
				return err
			}
		}
	}
	if kill > 0 {
		if p.end == 0 {
			return errors.New("it ended before it was killed")
		}
		_ = p.cmd.Wait() // by a signal
		p.end, p.ended = max(p.end, p.latest()), time.Now().UnixNano()
		return nil
	}
	return p.cmd.Wait()
}

// latest returns the instant of the last event.
func (p *process) latest() int64 {
	if len(p.events) == 0 {
		return 0
	}
	return p.events[len(p.events)-1].at
}
