package stores_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// TestLedgerOfFaults plays the model on DynamoDB behind a network that fails at times, before a
// call arrives or before its answer does. What may have been done is looked up: of each bucket all
// or nothing. What can be repeated is, and is done once.
func TestLedgerOfFaults(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 40) {
		synctest.Test(t, func(t *testing.T) {
			n := network(dynamofake.New(), seed)
			m := newLedgerModel(t, seed, twoLimiters(t, [2]zael.Store{onFake(t, n), onFake(t, n)}))
			m.inTime, m.network = true, n
			if err := m.play(100); err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(m.log, "\n"))
			}
		})
	}
}

// fault has the network fail at times, from somewhere within the next step.
func (m *ledgerModel) fault() {
	if m.network == nil || m.naps > 14 || m.rng.IntN(4) > 0 {
		return
	}
	faults := []error{&smithyhttp.RequestSendError{Err: errors.New("connection refused")}, dynamofake.SilentError{}, dynamofake.SilencedError{}}
	err, after := faults[m.rng.IntN(len(faults))], time.Duration(m.rng.Int64N(int64(6*time.Millisecond)))
	m.broken = true
	ends := after + time.Hour
	if m.rng.IntN(2) == 0 { // calls that are made again may arrive
		ends = after + time.Duration(m.rng.Int64N(int64(time.Second)))
	}
	m.note("fault from %v to %v: %v", after, ends, err)
	m.breaks = []*time.Timer{
		time.AfterFunc(after, func() { m.network.Break(err) }),
		time.AfterFunc(ends, func() { m.network.Break(nil) }),
	}
}

// repair has the network work again, and waits for what goes on in the background.
func (m *ledgerModel) repair() {
	if !m.broken {
		return
	}
	m.note("repaired")
	m.broken = false
	for _, t := range m.breaks {
		t.Stop()
	}
	synctest.Wait()
	m.network.Break(nil)
	m.sleep(time.Minute)
}

// failed reports whether an error is by a fault.
func (m *ledgerModel) failed(err error) bool { return m.broken && errors.Is(err, zael.ErrUnavailable) }

// mayHaveFailed reports whether a call that ended with err may not have given back all, as what
// gives back is not sent again.
func (m *ledgerModel) mayHaveFailed(err error) bool { return m.broken && (err == nil || m.failed(err)) }

// ask calls f, and once more if the network fails.
func (m *ledgerModel) ask(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	err := f(ctx)
	if !m.broken || !errors.Is(err, zael.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	m.note("failed: %v", err)
	m.repair()
	m.note("again")
	return f(m.t.Context())
}

func (m *ledgerModel) once(f func(context.Context) error) error { return f(m.t.Context()) }

// unsure looks up what a take that failed has done: of each bucket all that change does, or nothing.
// Slots that it may have taken are free when their hold ends.
func (m *ledgerModel) unsure(failed bool, change func()) error {
	return m.either(failed, change, func(k zael.Key, name string, before, after, got int64, whole *int) error {
		if got != before && got != after || before != after && *whole != 0 && (*whole > 0) != (got == after) {
			return fmt.Errorf("%v after a fault: got %d of %s used, want %d or %d, of all limits alike", k, got, name, before, after)
		}
		if before != after {
			*whole = -1
			if got == after {
				*whole = 1
			}
		}
		return nil
	}, false)
}

// unsureEnd looks up what an ending that failed has done: of each limit what change does, or
// nothing. Slots are free when their hold ends.
func (m *ledgerModel) unsureEnd(change func()) error {
	return m.either(true, change, func(k zael.Key, name string, before, after, got int64, _ *int) error {
		if got != before && got != after {
			return fmt.Errorf("%v after a fault: got %d of %s used, want %d or %d", k, got, name, before, after)
		}
		return nil
	}, true)
}

// either has change change what is used, and then takes back what was not done.
func (m *ledgerModel) either(
	failed bool, change func(), judge func(k zael.Key, name string, before, after, got int64, whole *int) error, released bool,
) error {
	if !failed {
		return nil
	}
	m.repair()
	before := map[zael.Key]zael.Amounts{}
	for k, used := range m.used {
		before[k] = maps.Clone(used)
	}
	change()
	after := m.used
	m.used = before
	slots := false
	for k := range after {
		slots = slots || after[k]["slots"] != before[k]["slots"]
		if before[k] == nil {
			before[k] = zael.Amounts{}
		}
		if released {
			before[k]["slots"] = after[k]["slots"]
		}
	}
	if slots {
		m.pass(hold + time.Hour)
		m.naps += 2
	}
	for k := range after {
		policy, limits := m.limitsOf(k)
		got, err := m.limiter().Available(m.t.Context(), zael.Query{Entity: k.Entity, Policy: policy})
		if err != nil {
			return err
		}
		whole := 0
		for _, l := range limits {
			if l.Name == "slots" {
				continue // looked at with all others
			}
			used := m.most(k, l) - got[l.Name]
			if err := judge(k, l.Name, before[k][l.Name], after[k][l.Name], used, &whole); err != nil {
				return err
			}
			before[k][l.Name] = used
		}
	}
	return m.check()
}
