// Package oncerig has replicas, processes on one store that are asked to acquire with idempotency
// keys, and callers that repeat what a replica that was killed has not answered.
package oncerig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// limitVariable tells a replica how much the callers may have together.
const limitVariable = "ZAEL_ONCE_LIMIT"

func policy(limit int) *zael.Policy {
	return zael.MustPolicy("gpt-4", zael.EachYear("requests", int64(limit)))
}

// Serve is what a replica does: for each line of its input, an idempotency key, it acquires, and
// writes the key and the id of the lease, or the key and "-" if it is refused.
func Serve(ctx context.Context, store zael.Store) error {
	l, err := zael.New(store, &zael.Config{Timeout: time.Hour})
	if err != nil {
		return err
	}
	limit, err := strconv.Atoi(os.Getenv(limitVariable))
	if err != nil {
		return fmt.Errorf("%s: %w", limitVariable, err)
	}
	p := policy(limit)
	var out sync.Mutex
	var all sync.WaitGroup
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		key := in.Text()
		all.Go(func() {
			answer := "-"
			d, err := l.AcquireDetached(ctx, p.For("alice", 1), zael.DetachOptions{IdempotencyKey: key})
			for errors.Is(err, zael.ErrContention) {
				d, err = l.AcquireDetached(ctx, p.For("alice", 1), zael.DetachOptions{IdempotencyKey: key})
			}
			switch {
			case err == nil:
				answer = d.ID()
			case !errors.Is(err, zael.ErrExceeded):
				answer = "! " + strings.ReplaceAll(err.Error(), "\n", "; ")
			}
			out.Lock()
			defer out.Unlock()
			fmt.Println(key, answer)
		})
	}
	all.Wait()
	return errors.Join(in.Err(), l.Close(ctx))
}

// A replica is a process that serves.
type replica struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	mu      sync.Mutex
	waiting map[string]chan string // by key; closed if the answer was lost
	gone    bool
	unheard chan struct{} // not nil: answers are lost, and closed once one is
	once    sync.Once     // closes it
	lost    int           // requests that were not answered
}

func start(t *testing.T, cmd *exec.Cmd, limit int) *replica {
	t.Helper()
	cmd.Env = append(cmd.Env, fmt.Sprint(limitVariable, "=", limit))
	r := &replica{cmd: cmd, waiting: map[string]chan string{}}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.in = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	reader.Go(func() { r.read(out) })
	t.Cleanup(func() {
		_ = in.Close()
		reader.Wait()
		_ = cmd.Wait()
	})
	return r
}

// read hands the answers on, and closes what was not answered in the end.
func (r *replica) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		key, answer, _ := strings.Cut(lines.Text(), " ")
		r.mu.Lock()
		c := r.waiting[key]
		switch {
		case r.unheard == nil:
			delete(r.waiting, key)
		case c != nil: // made, and not heard
			c = nil
			r.once.Do(func() { close(r.unheard) })
		}
		r.mu.Unlock()
		if c != nil {
			c <- answer
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone, r.lost = true, len(r.waiting)
	for _, c := range r.waiting {
		close(c)
	}
}

// ask acquires by a key. ok is false if there was no answer.
func (r *replica) ask(key string) (answer string, ok bool) {
	c := make(chan string, 1)
	r.mu.Lock()
	if r.gone {
		r.mu.Unlock()
		return "", false
	}
	r.waiting[key] = c
	_, _ = io.WriteString(r.in, key+"\n") // if that fails, the answer is lost
	r.mu.Unlock()
	answer, ok = <-c
	return answer, ok
}

// lose loses the answers of the replica from now on. It returns a channel that is closed once one
// is lost.
func (r *replica) lose() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unheard = make(chan struct{})
	return r.unheard
}

// Run has many callers make five times limit requests of three replicas, which command starts, of
// which one is killed with -9 in the middle. A request that is not answered is repeated on another
// replica. Exactly limit have to be told that they are admitted, and that is what store, which is the
// same, has charged. In a long run limit is 1000, and with -short a quarter.
func Run(t *testing.T, command func() *exec.Cmd, store zael.Store, limit int) {
	t.Helper()
	switch {
	case schedules.Long(t):
		limit = 1000
	case testing.Short():
		limit /= 4
	}
	// When half of limit are admitted, those on their way still are, too: an answer is lost that has
	// been charged.
	callers, requests := min(64, limit/4), 5*limit
	replicas := []*replica{start(t, command(), limit), start(t, command(), limit), start(t, command(), limit)}
	told, killed := make([]string, requests), make(chan struct{})
	var mu sync.Mutex
	admitted := 0
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for n := caller; n < requests; n += callers {
				key := fmt.Sprintf("key-%d", n)
				answer, ok := replicas[n%3].ask(key)
				for i := n + 1; !ok && i < n+3; i++ {
					answer, ok = replicas[i%3].ask(key)
				}
				if !ok {
					t.Errorf("%s: got no answer of any replica", key)
					return
				}
				if strings.HasPrefix(answer, "!") {
					t.Errorf("%s: got %s", key, answer)
				} else if told[n] = answer; answer != "-" {
					mu.Lock()
					if admitted++; admitted == limit/2 {
						close(killed)
					}
					mu.Unlock()
				}
			}
		})
	}
	ended := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		select {
		case <-killed:
			select {
			case <-replicas[0].lose():
			case <-ended:
			}
			_ = replicas[0].cmd.Process.Kill()
		case <-ended:
		}
	})
	all.Wait()
	close(ended)
	killer.Wait()
	ids := map[string]bool{}
	for _, id := range told {
		if id != "-" && id != "" {
			ids[id] = true
		}
	}
	left, err := leftIn(t.Context(), store, limit)
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != limit || admitted != limit || left != 0 {
		t.Errorf("got %d told of %d leases and %d left, want %d and 0", admitted, len(ids), left, limit)
	}
	replicas[0].mu.Lock()
	lost := replicas[0].lost
	replicas[0].mu.Unlock()
	if lost == 0 {
		t.Error("got no answer lost, want those of the replica that was killed")
	}
	t.Logf("%d of %d requests were told, %d answers were lost", admitted, requests, lost)
}

func leftIn(ctx context.Context, store zael.Store, limit int) (int64, error) {
	l, err := zael.New(store, &zael.Config{Timeout: time.Minute})
	if err != nil {
		return 0, err
	}
	n, err := l.Available(ctx, zael.Query{Entity: "alice", Policy: policy(limit)})
	return n["requests"], err
}
