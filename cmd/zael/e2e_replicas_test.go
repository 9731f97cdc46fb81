//go:build unix

package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	lib "github.com/zeroae/zael" // zael runs the program
	"github.com/zeroae/zael/client"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// A fleet is three servers on one store, which 64 callers ask.
type fleet struct {
	t        *testing.T
	servers  []*server
	clients  []*client.Client
	limit    lib.Limit
	amount   int64           // of it
	first    *lossyTransport // to the first server, which is killed
	killed   chan struct{}   // closed when that is to happen
	admitted atomic.Int64
}

const fleetCallers = 64

// newFleet starts the servers. Their limit is a quota of so many requests.
func newFleet(t *testing.T, s shop, limit int) *fleet {
	t.Helper()
	f := &fleet{t: t, limit: lib.EachYear("requests", int64(limit)), amount: int64(limit), killed: make(chan struct{})}
	for i := range 3 {
		d := s.serve("timeout: 1m\n") // the machine may have other work
		transport := &lossyTransport{RoundTripper: &http.Transport{MaxIdleConnsPerHost: fleetCallers}, heard: make(chan struct{})}
		if i == 0 {
			f.first = transport
		}
		c, err := client.New(d.base, &client.Config{Transport: transport, Timeout: 5 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		f.servers, f.clients = append(f.servers, d), append(f.clients, c)
		t.Cleanup(transport.RoundTripper.(*http.Transport).CloseIdleConnections) //nolint:forcetypeassert // made above
	}
	return f
}

// A lossyTransport loses answers when it is told to.
type lossyTransport struct {
	http.RoundTripper

	loses    atomic.Bool
	once     sync.Once
	heard    chan struct{} // closed once an answer is lost
	admitted atomic.Int64  // answers with status 200 that were lost
	unknown  atomic.Int64  // requests that the server has not answered, perhaps
}

var errLostAnswer = errors.New("the answer is lost")

func (l *lossyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil && !l.loses.Load() {
		return resp, nil
	}
	if err != nil {
		if !strings.Contains(err.Error(), "refused") { // those were never sent
			l.unknown.Add(1)
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		l.admitted.Add(1)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	l.once.Do(func() { close(l.heard) })
	return nil, errLostAnswer
}

// run has the callers make requests, of which number n begins at server n modulo 3. In the middle, the
// first server loses its answers and is killed with -9.
func (f *fleet) run(requests int, request func(n int)) {
	var group sync.WaitGroup
	for caller := range fleetCallers {
		group.Go(func() {
			for n := caller; n < requests; n += fleetCallers {
				request(n)
			}
		})
	}
	ended := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		select {
		case <-f.killed:
		case <-ended:
			f.t.Error("the callers had ended before the server could be killed")
			return
		}
		f.first.loses.Store(true)
		select {
		case <-f.first.heard:
		case <-ended:
			f.t.Error("no answer was lost")
		}
		f.servers[0].signal(os.Kill)
	})
	group.Wait()
	close(ended)
	killer.Wait()
	for range f.servers[0].lines { // until it has gone
	}
	_ = f.servers[0].cmd.Wait()
}

// told counts an answer that admits; in the middle the first server is to be killed.
func (f *fleet) told() {
	if f.admitted.Add(1) == f.amount/2 {
		close(f.killed)
	}
}

// left returns how much is left of the limit.
func (f *fleet) left() int64 {
	f.t.Helper()
	got, err := f.clients[1].Available(f.t.Context(), lib.Query{Entity: "alice", Resource: "gpt-4", Limits: []lib.Limit{f.limit}})
	if err != nil {
		f.t.Fatal(err)
	}
	return got[f.limit.Name]
}

// again reports whether a request is to be repeated, a moment later.
func again(err error) bool {
	if !errors.Is(err, lib.ErrUnavailable) && !errors.Is(err, lib.ErrContention) {
		return false
	}
	<-time.After(5 * time.Millisecond)
	return true
}

// stop ends the servers that are left.
func (f *fleet) stop() {
	for _, s := range f.servers[1:] {
		s.signal(os.Interrupt)
		if log := s.ended(); f.t.Failed() {
			f.t.Log(log)
		}
	}
}

// withKeys: callers that repeat what was lost are told exactly as much as there is, and each lease is
// ended once, whoever ends it and wherever.
func (f *fleet) withKeys(ctx context.Context) {
	limit := int(f.amount)
	leases := make([]*client.Lease, 5*limit)
	f.run(len(leases), func(n int) {
		req := client.Request{Entity: "alice", Resource: "gpt-4", Limits: []lib.Limit{f.limit}, IdempotencyKey: fmt.Sprint("request-", n)}
		for i := n; ; i++ {
			if i%3 == 0 && f.first.loses.Load() && i > n {
				continue
			}
			lease, err := f.clients[i%3].Acquire(ctx, req)
			switch {
			case again(err):
				continue
			case err == nil:
				leases[n] = lease
				f.told()
			case !errors.Is(err, lib.ErrExceeded):
				f.t.Errorf("request %d: got %v", n, err)
			}
			return
		}
	})
	ids := map[string]bool{}
	for _, l := range leases {
		if l != nil {
			ids[l.Text()] = true
		}
	}
	if told := f.admitted.Load(); told != int64(limit) || len(ids) != limit || f.left() != 0 {
		f.t.Errorf("got %d told of %d leases, and %d left, want exactly %d and 0", told, len(ids), f.left(), limit)
	}
	f.t.Logf("%d of %d requests were told, %d answers that admit were lost and %d more are unknown", f.admitted.Load(), len(leases), f.first.admitted.Load(), f.first.unknown.Load())
	f.endTwice(ctx, ids)
}

// endTwice has two servers end each lease at once, each second one in the same way: one of them does.
func (f *fleet) endTwice(ctx context.Context, ids map[string]bool) {
	var group sync.WaitGroup
	var n, givenBack, twice atomic.Int64
	work := make(chan string)
	for range fleetCallers {
		group.Go(func() {
			for text := range work {
				var firsts, rollbacks atomic.Int64
				var answers [2]lib.Ended
				var both sync.WaitGroup
				verbs := []lib.LeaseVerb{lib.LeaseRollback, lib.LeaseRollback}
				if n.Add(1)%2 == 0 {
					verbs[0] = lib.LeaseCommit
				}
				for i, verb := range verbs {
					both.Go(func() {
						lease := f.clients[1+i].Lease(text)
						ended, err := lease.End(ctx, lib.Ending{Verb: verb})
						for again(err) {
							ended, err = lease.End(ctx, lib.Ending{Verb: verb})
						}
						if err != nil {
							f.t.Error(err)
						}
						answers[i] = ended
						if !ended.Repeated {
							firsts.Add(1)
						}
						if ended.Verb == lib.LeaseRollback {
							rollbacks.Add(1)
						}
					})
				}
				both.Wait()
				if firsts.Load() > 1 || rollbacks.Load() == 1 { // both are told how it has ended
					twice.Add(1)
					f.t.Errorf("got the answers %+v, want one to be the first, and the other to repeat it", answers)
				}
				givenBack.Add(rollbacks.Load() / 2)
			}
		})
	}
	for text := range ids {
		work <- text
	}
	close(work)
	group.Wait()
	if left := f.left(); twice.Load() > 0 || left != givenBack.Load() {
		f.t.Errorf("got %d leases ended twice and %d left, want none and the %d that were rolled back", twice.Load(), left, givenBack.Load())
	}
	f.t.Logf("%d of %d leases were rolled back, the others committed", givenBack.Load(), len(ids))
}

// withoutKeys: what is charged is what was told, and what was lost in the server that was killed.
func (f *fleet) withoutKeys(ctx context.Context) {
	limit := f.amount
	f.run(5*int(limit), func(n int) {
		i := n
		if f.first.loses.Load() && i%3 == 0 && n%2 == 0 { // some go on to ask it
			i++
		}
		_, err := f.clients[i%3].Allow(ctx, client.Request{Entity: "alice", Resource: "gpt-4", Limits: []lib.Limit{f.limit}})
		for errors.Is(err, lib.ErrContention) { // nothing was taken
			_, err = f.clients[i%3].Allow(ctx, client.Request{Entity: "alice", Resource: "gpt-4", Limits: []lib.Limit{f.limit}})
		}
		switch {
		case err == nil:
			f.told()
		case i%3 == 0 && errors.Is(err, lib.ErrUnavailable): // lost
		case errors.Is(err, lib.ErrUnavailable): // the engine was too slow, and may have taken
			f.first.unknown.Add(1)
		case !errors.Is(err, lib.ErrExceeded):
			f.t.Errorf("request %d: got %v", n, err)
		}
	})
	told, lost, unknown := f.admitted.Load(), f.first.admitted.Load(), f.first.unknown.Load()
	if left := f.left(); left != 0 || told+lost > limit || told+lost+unknown < limit {
		f.t.Errorf("got %d told, %d lost, %d perhaps and %d left, want %d charged", told, lost, unknown, left, limit)
	}
	f.t.Logf("%d told, %d lost, %d perhaps: %d charged", told, lost, unknown, limit)
}

// TestReplicas: three servers on one file, of which one is killed with -9 in the middle.
func TestReplicas(t *testing.T) {
	t.Parallel()
	manyProcesses(t)
	limit := schedules.Count(t, 100)
	for name, run := range map[string]func(*fleet, context.Context){"with keys": (*fleet).withKeys, "without keys": (*fleet).withoutKeys} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, newShop(t), limit)
			run(f, t.Context())
			f.stop()
		})
	}
}

// TestReplicasDynamoDB is TestReplicas on a table, where each take with a key is a transaction.
func TestReplicasDynamoDB(t *testing.T) {
	t.Parallel()
	limit := 25
	if schedules.Long(t) {
		limit = 1000
	}
	for name, run := range map[string]func(*fleet, context.Context){"with keys": (*fleet).withKeys, "without keys": (*fleet).withoutKeys} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, onDynamoDB(t), limit)
			run(f, t.Context())
			f.stop()
		})
	}
}
