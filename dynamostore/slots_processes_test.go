package dynamostore_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

const simultaneous = 20

func twentySlots() *zael.Policy {
	return zael.MustPolicy("gpt-4", zael.AtOnce("parallel", simultaneous).Hold(bucket.MinHold), zael.PerMinute("rpm", 1_000_000))
}

// holdSlot holds a slot while it is behind the door.
func holdSlot(ctx context.Context, l *zael.Limiter, door string) error {
	req := twentySlots().For("shared", 1, 1)
	req.MaxWait = time.Hour
	lease, err := l.Acquire(ctx, req)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", door)
	if err != nil {
		return err
	}
	var answer [1]byte
	_, entered := io.ReadFull(conn, answer[:])
	_, said := conn.Write(answer[:])
	_, left := io.ReadFull(conn, answer[:]) // it does not count any more
	return errors.Join(entered, said, left, conn.Close(), lease.Commit(ctx))
}

// A door counts the processes that hold a slot, by their connections: one ends when its process is
// killed.
type door struct {
	net.Listener
	mu               sync.Mutex
	now, most, total int
	progress         chan int // the total, as it grows
	line             []chan struct{}
	crowded          chan struct{} // closed when it has been, once
}

// crowd is how many are kept behind a door: the first ones however long it takes, as all slots
// are taken some time while nobody leaves, and later ones if others come soon enough.
const (
	crowd      = simultaneous - 1
	soonEnough = 50 * time.Millisecond
)

func openDoor(t *testing.T) *door {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: ln, progress: make(chan int, 1), crowded: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { d.enter(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return d
}

func (d *door) count(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now += n; n < 0 {
		return
	}
	if d.most, d.total = max(d.most, d.now), d.total+1; d.now > crowd {
		select {
		case <-d.crowded:
		default:
			close(d.crowded)
		}
	}
	select {
	case <-d.progress:
	default:
	}
	d.progress <- d.total
}

// wait returns a channel that is closed when so many have come since that it is crowded.
func (d *door) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	mine := make(chan struct{})
	if d.line = append(d.line, mine); len(d.line) > crowd || d.now > crowd {
		close(d.line[0])
		d.line = d.line[1:]
	}
	return mine
}

func (d *door) enter(conn net.Conn) {
	d.count(1)
	var answer [1]byte
	next := d.wait()
	select {
	case <-next:
	case <-d.crowded:
		select {
		case <-next:
		case <-time.After(soonEnough):
		}
	}
	_, _ = conn.Write(answer[:])
	_, _ = io.ReadFull(conn, answer[:]) // or it was killed
	d.count(-1)
	_, _ = conn.Write(answer[:])
	_ = conn.Close()
}

// 8 processes hold 20 slots, and never more at once, though some are killed with -9 in the
// middle. Of these the slots are free when their hold has ended.
func TestSlotsOfKilledProcesses(t *testing.T) {
	t.Parallel()
	const processes, killed, callers = 8, 3, 6
	times := 50
	if schedules.Long(t) {
		times = 500
	}
	c, _ := newClient(t)
	table := newTable(t, c)
	d := openDoor(t)
	all := make([]*process, processes)
	for i := range all {
		all[i] = hire(t, engine.Endpoint(t), work{Table: table, Callers: callers, Times: times, Door: d.Addr().String()})
	}
	for _, p := range all {
		if _, err := io.WriteString(p.in, "go\n"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range killed {
		for total := range d.progress {
			if total >= (i+1)*processes*times/8 {
				break
			}
		}
		if err := all[i].cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range all[killed:] {
		var r result
		if err := json.NewDecoder(p.out).Decode(&r); err != nil {
			t.Fatalf("process %d: %v", killed+i, err)
		}
		if r.Admitted != int64(times) {
			t.Errorf("process %d: got %d admitted, want %d", killed+i, r.Admitted, times)
		}
		t.Logf("process %d: %d calls", killed+i, r.Calls)
	}
	if d.most != simultaneous {
		t.Errorf("got %d slots held at once, want all %d and no more", d.most, simultaneous)
	}
	t.Logf("%d slots were held, %d at once", d.total, d.most)

	s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
	opened(t, s, err)
	slots := bucket.Definition{Kind: bucket.Slots, Burst: simultaneous, Capacity: simultaneous, Period: bucket.MinHold}
	take := zael.Debit{
		Key: zael.Key{Entity: "shared", Resource: "gpt-4"}, Holder: "the last", Charges: []zael.Charge{{Name: "parallel", Definition: slots, Amount: simultaneous}},
	}
	if _, err := s.Take(t.Context(), time.Now().Add(bucket.MinHold+time.Second), 0, []zael.Debit{take}); err != nil {
		t.Errorf("all slots, a hold later: got %v, want them", err)
	}
}
