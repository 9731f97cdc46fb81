package stores_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
			n := network(seed)
			m := newLedgerModel(t, seed, twoLimiters(t, [2]zael.Store{onFake(t, n), onFake(t, n)}))
			m.inTime, m.network = true, n
			m.mustPlay(100)
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

// charged notes what a charge or credit of parts has done, or finds it out if it failed.
func (m *ledgerModel) charged(err error, parts []*modelPart, sign int64) error {
	change := func() { m.chargeParts(parts, sign) }
	switch {
	case m.failed(err):
		return m.unsure(change)
	case err != nil:
		return fmt.Errorf("charge by %d: %w", sign, err)
	}
	change()
	return nil
}

// ended notes what a call by a lease of this process that gives back has done. What gives back is
// not sent again: with a fault it may not be done, whether there is an error or not.
func (m *ledgerModel) ended(verb string, err error, change func()) error {
	switch {
	case m.failed(err), m.broken && err == nil:
		return m.lookUp(change, true)
	case err != nil:
		return fmt.Errorf("%s: %w", verb, err)
	}
	change()
	return nil
}

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

// unsure looks up what a take has done that did not succeed, if there is a fault.
func (m *ledgerModel) unsure(change func()) error {
	if !m.broken {
		return nil
	}
	return m.lookUp(change, false)
}

// lookUp makes a change of what is used, and then takes back what was not done: of a take all of a
// bucket or nothing, and of an ending what it did of each limit. Slots are free when their hold ends.
func (m *ledgerModel) lookUp(change func(), ending bool) error {
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
		if ending {
			before[k]["slots"] = after[k]["slots"]
		}
	}
	if slots {
		m.outlastHolds()
	}
	for k := range after {
		if err := m.lookUpBucket(k, after[k], ending); err != nil {
			return err
		}
	}
	return m.check()
}

// lookUpBucket finds out which limits of a bucket have changed to after, slots apart.
func (m *ledgerModel) lookUpBucket(k zael.Key, after zael.Amounts, ending bool) error {
	limits, got, err := m.available(m.l[0], k)
	if err != nil {
		return err
	}
	var done, left []string
	for _, l := range limits {
		used, was := m.most(k, l)-got[l.Name], m.used[k][l.Name]
		switch {
		case l.Kind() == zael.KindSlots || used == was && used == after[l.Name]:
			continue
		case used == after[l.Name]:
			done = append(done, l.Name)
		case used == was:
			left = append(left, l.Name)
		default:
			return fmt.Errorf("%v after a fault: got %d of %s used, want %d or %d", k, used, l.Name, was, after[l.Name])
		}
		m.used[k][l.Name] = used
	}
	if len(done) > 0 && len(left) > 0 && !ending {
		return fmt.Errorf("%v after a fault: got %v taken and %v not", k, done, left)
	}
	return nil
}
