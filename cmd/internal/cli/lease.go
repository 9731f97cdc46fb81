package cli

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/client"
)

// A lease is what an acquire took, in this process or by a server.
//
//nolint:interfacebloat // both have all of it
type lease interface {
	Consumed() zael.Amounts
	Delay() time.Duration
	Degraded() bool
	Settle(used zael.Amounts) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error

	// statuses returns how the limits stood just after the acquire.
	statuses() []zael.Status
	// keep keeps slots until stop is called, which says whether they were lost.
	keep(ctx context.Context) (stop func() error)
}

// An acquirer makes one acquire.
type acquirer interface {
	acquire(ctx context.Context) (lease, error)
}

// acquirer returns what makes an acquire, and a function that lets go of it. work says whether a command
// runs under its lease.
func (a *app) acquirer(ctx context.Context, s *storeFlags, req *zael.Request, work bool) (acquirer, func(), error) {
	url, err := a.storeURL(s)
	if err != nil {
		return nil, nil, err
	}
	if isServer(url) {
		c, err := a.dial(s, url)
		if err != nil {
			return nil, nil, err
		}
		return &remoteAcquirer{c, req, work}, c.Close, nil
	}
	store, err := a.open(ctx, s)
	var used zael.Store = store
	closeStore := func() {}
	switch {
	case err == nil:
		closeStore = func() { _ = store.Close(context.WithoutCancel(ctx)) }
	case req.FailureMode == zael.FailOpen && errors.Is(err, zael.ErrUnavailable):
		used = downStore{cause: err}
	default:
		return nil, nil, err
	}
	l, err := zael.New(used, &zael.Config{Timeout: s.timeout})
	if err != nil {
		closeStore()
		return nil, nil, err
	}
	return &localAcquirer{l, req}, func() {
		_ = l.Close(context.WithoutCancel(ctx)) // gives back the places in line that nobody is left for
		closeStore()
	}, nil
}

// A localAcquirer acquires by a limiter in this process.
type localAcquirer struct {
	limiter *zael.Limiter
	req     *zael.Request
}

func (l *localAcquirer) acquire(ctx context.Context) (lease, error) {
	got, err := l.limiter.Acquire(ctx, *l.req)
	if err != nil {
		return nil, err
	}
	return &localLease{got}, nil
}

type localLease struct{ *zael.Lease }

func (l *localLease) statuses() []zael.Status {
	d := l.Decision()
	return slices.Collect(d.All())
}

// keep has nothing to do: the limiter renews what its leases hold.
func (l *localLease) keep(context.Context) func() error { return func() error { return nil } }

// A remoteAcquirer acquires by a server.
type remoteAcquirer struct {
	client *client.Client
	req    *zael.Request
	work   bool
}

func (r *remoteAcquirer) acquire(ctx context.Context) (lease, error) {
	req := client.Request{
		Entity: r.req.Entity, Resource: r.req.Resource, Limits: r.req.Limits, ParentLimits: r.req.ParentLimits, Consume: r.req.Consume,
		Stored: r.req.UseStoredLimits && len(r.req.Limits) > 0, Cascade: r.req.Cascade, MaxWait: r.req.MaxWait, FailureMode: r.req.FailureMode,
	}
	if len(req.Limits) == 0 {
		req.Limits = nil
	}
	var got remoteLease
	var err error
	if r.work {
		if got.Lease, err = r.client.Acquire(ctx, req); err == nil {
			got.told = got.Admission()
		}
	} else {
		got.told, err = r.client.Allow(ctx, req)
	}
	switch {
	case err == nil:
		return &got, nil
	case r.req.FailureMode == zael.FailOpen && errors.Is(err, zael.ErrUnavailable):
		got.told = client.Admission{Entity: req.Entity, Resource: req.Resource, Degraded: true}
		return &got, nil
	}
	return nil, r.slots(err)
}

// slots returns an error about slots that no command holds in terms of the command line.
func (r *remoteAcquirer) slots(err error) error {
	v, ok := errors.AsType[*zael.ValidationError](err)
	if !ok || v.Field != "lease" {
		return err
	}
	for _, l := range r.req.Limits {
		if n := r.req.Consume[l.Name]; n > 0 && l.Kind() == zael.KindSlots {
			return slotsError(l.Name, n)
		}
	}
	return usagef("--consume: slots are held until a command ends: write the command after --")
}

// A remoteLease is what a server has told.
type remoteLease struct {
	*client.Lease // nil if nothing is to be settled

	told client.Admission
}

func (l *remoteLease) statuses() []zael.Status { return l.told.Limits }

func (l *remoteLease) Delay() time.Duration { return l.told.Waited }

func (l *remoteLease) Degraded() bool { return l.told.Degraded }

// Consumed returns what was taken of the entity's own limits.
func (l *remoteLease) Consumed() zael.Amounts {
	amounts := zael.Amounts{}
	for _, s := range l.told.Limits {
		if s.Entity == l.told.Entity {
			amounts[s.Limit.Name] = s.Requested
		}
	}
	return amounts
}

func (l *remoteLease) Settle(used zael.Amounts) error {
	if l.Lease == nil {
		return nil
	}
	return l.Lease.Settle(used)
}

func (l *remoteLease) Commit(ctx context.Context) error {
	if l.Lease == nil {
		return nil
	}
	return l.Lease.Commit(ctx)
}

func (l *remoteLease) Rollback(ctx context.Context) error { return l.Lease.Rollback(ctx) }

func (l *remoteLease) keep(ctx context.Context) func() error {
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var err error
	var keeper sync.WaitGroup
	if l.Lease != nil {
		keeper.Go(func() { err = l.Keep(within) })
	}
	return func() error {
		cancel()
		keeper.Wait()
		return err
	}
}
