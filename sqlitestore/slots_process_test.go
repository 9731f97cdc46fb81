package sqlitestore_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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
	"github.com/zeroae/zael/sqlitestore"
)

// slotsVariable makes the test binary a process that holds slots of a file.
const slotsVariable = "ZAEL_SQLITESTORE_SLOTS"

// holdSlots is a process that holds slots of a file.
func holdSlots(ctx context.Context, path string) error {
	s, err := sqlitestore.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	return errors.Join(workSlots(ctx, s), s.Close(ctx))
}

// Processes on one file never hold more slots than there are, and the slots of those that
// are killed come back.
func TestSlotsOfProcesses(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	runSlots(t, func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), slotsVariable+"="+path, "GORACE=atexit_sleep_ms=0")
		return cmd
	}, s)
}

const (
	slotsAtOnce   = 20
	slotsHold     = 10 * time.Second
	slotProcesses = 8
	slotsKilled   = 3
	slotCallers   = 6   // of a process
	slotTimes     = 500 // that a process acquires
)

func slotPolicy() *zael.Policy {
	return zael.MustPolicy("gpt-4", zael.PerSecond("rps", 1e6), zael.AtOnce("parallel", slotsAtOnce).Hold(slotsHold))
}

// workSlots is what a process that holds slots does: it waits for a line, acquires slots of
// the store, and writes when it begins and ends to hold each.
func workSlots(ctx context.Context, store zael.Store) error {
	l, err := zael.New(store, &zael.Config{Timeout: time.Hour})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var next atomic.Int64
	errs := make([]error, slotCallers, slotCallers+1)
	p := slotPolicy()
	var wg sync.WaitGroup
	for i := range slotCallers {
		wg.Go(func() {
			for n := next.Add(1); n <= slotTimes && errs[i] == nil; n = next.Add(1) {
				errs[i] = holdOnce(ctx, l, p, n)
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, l.Close(ctx))...)
}

// holdOnce holds 1 to 3 slots for a moment.
func holdOnce(ctx context.Context, l *zael.Limiter, p *zael.Policy, n int64) error {
	moment := func() error { return pause.For(ctx, time.Duration(rand.Int64N(int64(5*time.Millisecond)))) }
	count := 1 + n%3
	for {
		lease, err := l.Acquire(ctx, p.For("key-1", 1, count))
		if errors.Is(err, zael.ErrExceeded) || errors.Is(err, zael.ErrContention) {
			if err := moment(); err != nil {
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
		if err := moment(); err != nil {
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

// A slotEvent is that a process begins or ends to hold slots.
type slotEvent struct {
	at    int64 // ns since 1970
	delta int64
}

// A slotProcess holds slots.
type slotProcess struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Scanner
	events   []slotEvent
	holds    map[int64]int64 // by number of the acquire
	acquires int
	end      int64 // when it was killed
	ended    int64 // when it had ended, of one that was killed
}

// runSlots starts processes by command, has them hold slots, kills some while they do, and
// checks that no more than the limit were held at any instant, and that all are free
// within the hold of the kill. store is on the same data.
func runSlots(t *testing.T, command func() *exec.Cmd, store zael.Store) {
	t.Helper()
	all := make([]*slotProcess, slotProcesses)
	for i := range all {
		all[i] = startSlots(t, command())
	}
	for _, p := range all {
		if _, err := io.WriteString(p.in, "go\n"); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			if err := p.follow(i < slotsKilled); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var events []slotEvent
	last := int64(0) // when all that were killed had ended
	left := 0
	for i, p := range all {
		for _, n := range p.holds {
			events, left = append(events, slotEvent{p.end, -n}), left+1
		}
		if events = append(events, p.events...); i < slotsKilled {
			last = max(last, p.ended)
		} else if p.acquires != slotTimes {
			t.Errorf("process %d: got %d acquires, want %d", i, p.acquires, slotTimes)
		}
	}
	slices.SortFunc(events, func(a, b slotEvent) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.delta, b.delta)) })
	held, most := int64(0), int64(0)
	for _, e := range events {
		held += e.delta
		most = max(most, held)
	}
	if most > slotsAtOnce || most < slotsAtOnce/2 {
		t.Errorf("held at once: got up to %d, want up to %d", most, slotsAtOnce)
	}
	if left == 0 {
		t.Error("no process was killed while it held slots")
	}
	t.Logf("up to %d held at once; %d leases of killed processes", most, left)
	slotsFreed(t, store, time.Unix(0, last))
}

// slotsFreed takes all slots, when those of the killed processes are free.
func slotsFreed(t *testing.T, store zael.Store, death time.Time) {
	t.Helper()
	l, err := zael.New(store, &zael.Config{Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	const slack = 1500 * time.Millisecond // of the clocks of an engine
	for {
		begun := time.Now()
		lease, err := l.Acquire(t.Context(), slotPolicy().For("key-1", 1, slotsAtOnce))
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
		if by, most := begun.Add(refusal.RetryAfter()), death.Add(slotsHold+slack); by.After(most) {
			t.Fatalf("all slots are free %v after the last process died, want %v at most", by.Sub(death), slotsHold)
		}
		if err := pause.For(t.Context(), refusal.RetryAfter()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func startSlots(t *testing.T, cmd *exec.Cmd) *slotProcess {
	t.Helper()
	p := &slotProcess{cmd: cmd, holds: map[int64]int64{}}
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

// follow reads what a process says, and kills it when it has acquired a few times and
// holds slots, if it is to die.
func (p *slotProcess) follow(dies bool) error {
	for p.out.Scan() {
		var sign string
		var n, count, at int64
		if _, err := fmt.Sscan(p.out.Text(), &sign, &n, &count, &at); err != nil {
			return fmt.Errorf("line %q: %w", p.out.Text(), err)
		}
		switch {
		case sign == "-" && p.holds[n] > 0:
			p.events = append(p.events, slotEvent{at, -count})
			delete(p.holds, n)
		case sign == "+" && at > 0:
			p.events = append(p.events, slotEvent{at, count})
			p.holds[n] = count
		}
		if sign == "+" {
			p.acquires++
		}
		if dies && p.end == 0 && p.acquires >= slotTimes/4 && len(p.holds) >= slotCallers/2 {
			p.end = time.Now().UnixNano()
			if err := p.cmd.Process.Kill(); err != nil { // SIGKILL
				return err
			}
		}
	}
	if dies {
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
func (p *slotProcess) latest() int64 {
	if len(p.events) == 0 {
		return 0
	}
	return p.events[len(p.events)-1].at
}
