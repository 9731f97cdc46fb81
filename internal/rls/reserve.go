package rls

import (
	"context"
	"errors"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/rls/rules"
)

// Leases writes leases as text that only this service and its replicas can have written, and
// reads it.
type Leases interface {
	Text(ctx context.Context, d *zael.DetachedLease) (string, error)
	Parse(ctx context.Context, text string) (*zael.DetachedLease, error)
}

// The times for which a reservation may be held.
const (
	minHold     = time.Second
	maxHold     = 30 * 24 * time.Hour
	defaultHold = 5 * time.Minute
)

// Check tells whether a request would be admitted, and takes nothing: Kuadrant's
// CheckRateLimit. Errors are those of ShouldRateLimit.
func (s *Service) Check(ctx context.Context, r *pb.RateLimitRequest) (*pb.RateLimitResponse, error) {
	c, err := s.open(r)
	if err != nil {
		return nil, err
	}
	for i := range c.descriptors {
		l := &c.descriptors[i]
		switch l.action {
		case nothing, credit:
			continue
		case refuse:
			l.exceeded = true
		default:
			left, err := s.limiter.Available(ctx, zael.Query{Entity: l.entity, Policy: l.rule.Policy})
			if errors.Is(err, zael.ErrDisabled) {
				left, err = zael.Amounts{}, nil
			}
			if err != nil {
				return nil, statusError(err)
			}
			n := left[l.rule.Limit.Name]
			l.exceeded = n < l.amount
			l.known, l.status = true, zael.Status{Limit: l.rule.Limit, Available: n}
		}
		c.over = c.over || l.exceeded && !s.shadow(l.rule)
	}
	return s.answer(c), nil
}

// Report charges what was used, whether it fits or not: Kuadrant's Report. Errors are those of
// ShouldRateLimit.
func (s *Service) Report(ctx context.Context, r *pb.RateLimitRequest) (*pb.RateLimitResponse, error) {
	c, err := s.open(r)
	if err != nil {
		return nil, err
	}
	for i := range c.descriptors {
		if l := &c.descriptors[i]; l.action == take || l.action == takeAlone {
			l.action = charge
		}
	}
	if err := s.chargeAndCredit(ctx, c); err != nil {
		return nil, statusError(err)
	}
	c.over = false // it is told, not asked
	return s.answer(c), nil
}

// A Reservation is what Reserve was asked for.
type Reservation struct {
	Domain      string
	Descriptors []*common.RateLimitDescriptor
	Amount      uint64
	Hold        time.Duration // that it may be committed; 0 is five minutes
}

// Reserve takes an estimate from all descriptors or from none, and returns a text by which
// Commit settles it to what was used, once, on any replica: Kuadrant's Reserve. ok is false if
// it is refused. What is never committed stays taken; of a token bucket it refills. Rules in
// shadow mode take nothing. Errors are those of ShouldRateLimit.
func (s *Service) Reserve(ctx context.Context, r *Reservation, leases Leases) (id string, ok bool, err error) {
	if r.Amount > uint64(bucket.MaxAmount) {
		return "", false, status.Errorf(codes.InvalidArgument, "amount: %d is more than %d", r.Amount, bucket.MaxAmount)
	}
	hold := min(max(r.Hold, minHold), maxHold)
	if r.Hold == 0 {
		hold = defaultHold
	}
	c, err := s.open(&pb.RateLimitRequest{Domain: r.Domain, Descriptors: r.Descriptors, HitsAddend: 1})
	if err != nil {
		return "", false, err
	}
	for i := range c.descriptors {
		l := &c.descriptors[i]
		if l.action == refuse && !s.shadow(l.rule) {
			return "", false, nil
		}
		l.amount = int64(r.Amount) //nolint:gosec // at most MaxAmount, as checked above
	}
	parts := c.parts(func(l *descriptor) bool { return l.reserves(s) })
	if len(parts) == 0 {
		return "", true, nil
	}
	d, err := s.limiter.AcquireDetached(ctx, request(parts, c.domain), zael.DetachOptions{MaxAge: hold, Principal: "rls"})
	switch {
	case errors.Is(err, zael.ErrExceeded), errors.Is(err, zael.ErrDisabled):
		return "", false, nil
	case err != nil:
		return "", false, statusError(err)
	}
	if id, err = leases.Text(ctx, d); err != nil {
		_, undone := s.limiter.EndDetached(ctx, d, zael.Ending{Verb: zael.LeaseRollback})
		return "", false, statusError(errors.Join(err, undone))
	}
	return id, true, nil
}

// reserves reports whether a descriptor is part of a reservation.
func (l *descriptor) reserves(s *Service) bool {
	return l.action != nothing && l.action != refuse && !s.shadow(l.rule)
}

// Commit settles a reservation to what was really used, or, if it is not known any more, charges
// that: Kuadrant's Commit. released tells whether the reservation was there. A repetition
// changes nothing. Errors are those of ShouldRateLimit.
func (s *Service) Commit(ctx context.Context, id string, used *Reservation, leases Leases) (released bool, err error) {
	if used.Amount > uint64(bucket.MaxAmount) {
		return false, status.Errorf(codes.InvalidArgument, "actual_amount: %d is more than %d", used.Amount, bucket.MaxAmount)
	}
	n := int64(used.Amount) //nolint:gosec // at most MaxAmount, as checked above
	c, err := s.open(&pb.RateLimitRequest{Domain: used.Domain, Descriptors: used.Descriptors, HitsAddend: 1})
	if err != nil {
		return false, err
	}
	if id != "" {
		d, err := leases.Parse(ctx, id)
		if err == nil {
			_, err = s.limiter.EndDetached(ctx, d, c.settlement(d, n))
		}
		if _, invalid := errors.AsType[*zael.ValidationError](err); err == nil {
			return true, nil
		} else if !invalid && !errors.Is(err, zael.ErrLeaseExpired) && !errors.Is(err, ErrNoReservation) {
			return false, statusError(err)
		}
	}
	for i := range c.descriptors {
		l := &c.descriptors[i]
		if l.amount = n; l.action == take || l.action == takeAlone {
			l.action = charge
		}
	}
	if err := s.chargeAndCredit(ctx, c); err != nil {
		return false, statusError(err)
	}
	return false, nil
}

// ErrNoReservation is what Leases return of a text that is none of theirs.
var ErrNoReservation = errors.New("no reservation has this id")

// settlement returns the end of a lease by which n tokens were used of each of its buckets, of
// the limits that the descriptors of the call name.
func (c *call) settlement(d *zael.DetachedLease, n int64) zael.Ending {
	of := func(key zael.Key) zael.Amounts {
		amounts := zael.Amounts{}
		for i := range c.descriptors {
			if l := &c.descriptors[i]; l.entity == key.Entity && l.rule != nil && l.rule.Policy != nil {
				amounts[l.rule.Limit.Name] = n
			}
		}
		if len(amounts) == 0 { // the rules have changed since
			amounts[rules.LimitName] = n
		}
		return amounts
	}
	keys := d.Keys()
	e := zael.Ending{Verb: zael.LeaseSettle, Amounts: of(keys[0])}
	for _, key := range keys[1:] {
		e.Also = append(e.Also, zael.PartAmount{Entity: key.Entity, Resource: key.Resource, Amounts: of(key)})
	}
	return e
}

// open reads a request, whose error is one of gRPC.
func (s *Service) open(r *pb.RateLimitRequest) (*call, error) {
	now := s.rules()
	if now == nil {
		return nil, status.Error(codes.Unavailable, "no rules are known yet")
	}
	c, err := s.read(now, r)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return c, nil
}
