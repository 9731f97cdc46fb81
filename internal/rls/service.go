// Package rls is Envoy's rate limit service on a Limiter: the RPC ShouldRateLimit, and the
// same as JSON over HTTP.
//
// Each descriptor of a request goes by one rule of its domain, and has one bucket: that of the
// entity that its entries are, on the resource that the domain is. What a request does with
// the bucket is said by the addend of the descriptor:
//
//   - A plain request takes the request's addend, from all its descriptors or from none.
//   - An addend of 0 takes nothing, and refuses only where the bucket is in debt.
//   - An addend above 0 charges what was used: it is told of when that can no longer be
//     refused, as a stream ends. What does not fit becomes debt, and the answer is OVER_LIMIT.
//   - A negative addend gives back, to no more than full.
//
// Each descriptor of a rule in shadow mode takes by itself, and refuses nobody. So does each in quota
// mode; these refuse when none of them has anything left.
package rls

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/rls/rules"
)

// Bounds of a request.
const (
	maxDescriptors = 16
	maxEntries     = rules.MaxDepth
)

// Options say how requests are decided.
type Options struct {
	Shadow bool // every rule is in shadow mode
	Quota  bool // every rule is in quota mode

	// NeverRefuse makes quotas refuse nobody, even if none of a request's has anything left.
	NeverRefuse bool
	// ChargeOnRefusal charges all descriptors, whether they fit or not, as
	// envoyproxy/ratelimit does, except token buckets that refused.
	ChargeOnRefusal bool
	// Headers are the names of headers that tell of the limit that is nearest; those with
	// an empty name are left out.
	Headers Headers

	// Count is called for each descriptor that a rule limits; it may be nil. It is called
	// concurrently.
	Count func(domain, metricName string, h Hits)
	// NearLimit is the share of a limit above which hits count as near it; 0 means 0.8.
	NearLimit float32
}

// Headers are names of headers for the client.
type Headers struct{ Limit, Remaining, Reset string }

// A Service decides requests. Its methods may be called concurrently.
type Service struct {
	pb.UnimplementedRateLimitServiceServer

	limiter *zael.Limiter
	rules   func() *rules.Rules
	options Options
}

// New returns a service. rules returns those that hold now; as long as that is nil, requests
// fail as if the store could not answer.
func New(l *zael.Limiter, rules func() *rules.Rules, o *Options) *Service {
	s := &Service{limiter: l, rules: rules, options: *o}
	s.options.NearLimit = cmp.Or(o.NearLimit, 0.8)
	return s
}

// ShouldRateLimit implements the RPC. Its errors have the code InvalidArgument for an invalid
// request, and Unavailable if the store does not answer, so that Envoy's failure_mode_deny decides.
func (s *Service) ShouldRateLimit(ctx context.Context, r *pb.RateLimitRequest) (*pb.RateLimitResponse, error) {
	c, err := s.open(r)
	if err != nil {
		return nil, err
	}
	if err := s.decide(ctx, c); err != nil {
		return nil, statusError(err)
	}
	s.count(c)
	return s.answer(c), nil
}

// A call is a request and what is known of it so far.
type call struct {
	domain      string
	descriptors []descriptor
	over        bool // the request is refused
}

// A descriptor is one descriptor of a request, and what came of it.
type descriptor struct {
	rule       *rules.Rule // nil: nothing limits it
	entity     string
	metricName func() string // its name in statistics
	action     action
	amount     int64 // tokens, not negative

	known     bool // the bucket was asked
	status    zael.Status
	exceeded  bool  // it does not fit
	uncharged int64 // reported tokens that are too many to charge
}

// An action is what a descriptor does with its bucket.
type action uint8

const (
	nothing   action = iota // nothing limits the descriptor
	refuse                  // a limit of 0
	take                    // with the others, or not at all
	takeAlone               // in shadow or quota mode
	charge
	credit
)

// read returns the call of a request.
func (s *Service) read(now *rules.Rules, r *pb.RateLimitRequest) (*call, error) {
	switch n := len(r.GetDescriptors()); {
	case r.GetDomain() == "":
		return nil, errors.New("rate limit domain must not be empty")
	case n == 0:
		return nil, errors.New("rate limit descriptor list must not be empty")
	case n > maxDescriptors:
		return nil, fmt.Errorf("%d descriptors are more than %d", n, maxDescriptors)
	}
	c := &call{domain: r.GetDomain(), descriptors: make([]descriptor, len(r.GetDescriptors()))}
	replaced := map[string]bool{}
	for i, d := range r.GetDescriptors() {
		l, err := s.descriptor(now, r, d)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d: %w", i, err)
		}
		c.descriptors[i] = l
		if l.rule != nil {
			for _, name := range l.rule.Replaces {
				replaced[name] = true
			}
		}
	}
	for i := range c.descriptors {
		if l := &c.descriptors[i]; l.rule != nil && l.rule.Name != "" && replaced[l.rule.Name] {
			*l = descriptor{}
		}
	}
	return c, nil
}

// descriptor reads one descriptor.
func (s *Service) descriptor(now *rules.Rules, r *pb.RateLimitRequest, d *common.RateLimitDescriptor) (l descriptor, err error) {
	if n := len(d.GetEntries()); n > maxEntries {
		return l, fmt.Errorf("%d entries are more than %d", n, maxEntries)
	}
	entries := make([]rules.Entry, len(d.GetEntries()))
	for i, e := range d.GetEntries() {
		entries[i] = rules.Entry{Key: e.GetKey(), Value: e.GetValue()}
	}
	amount, err := amountOf(r, d)
	if err != nil {
		return l, err
	}
	if o := d.GetLimit(); o != nil && now.Has(r.GetDomain()) {
		l.rule, err = rules.Override(r.GetDomain(), o.GetRequestsPerUnit(), rules.Unit(o.GetUnit()))
		if err != nil {
			return l, fmt.Errorf("limit: %w", err)
		}
		l.entity = rules.Entity(entries)
		l.metricName = func() string { return rules.OverrideMetricName(r.GetDomain(), entries) }
	} else if m, ok := now.Match(r.GetDomain(), entries); ok {
		l.rule, l.entity, l.metricName = m.Rule, m.Entity, m.MetricName
	}
	l.amount = amount
	l.action = s.actionOf(l.rule, d)
	return l, nil
}

// amountOf returns the tokens that a descriptor is about.
func amountOf(r *pb.RateLimitRequest, d *common.RateLimitDescriptor) (int64, error) {
	addend := uint64(max(1, r.GetHitsAddend()))
	if d.GetHitsAddend() != nil {
		addend = d.GetHitsAddend().GetValue()
	}
	if addend > uint64(bucket.MaxAmount) {
		return 0, fmt.Errorf("hits_addend: %d is more than %d", addend, bucket.MaxAmount)
	}
	return int64(addend), nil
}

func (s *Service) actionOf(r *rules.Rule, d *common.RateLimitDescriptor) action {
	switch explicit := d.GetHitsAddend(); {
	case r == nil, r.Unlimited:
		return nothing
	case r.Requests == 0:
		return refuse
	case d.GetIsNegativeHits():
		return credit
	case explicit.GetValue() > 0:
		return charge
	case s.shadow(r), s.quota(r):
		return takeAlone
	}
	return take
}

func (s *Service) shadow(r *rules.Rule) bool { return s.options.Shadow || r.Shadow }

// quota reports whether a rule is a quota. Shadow mode outranks it.
func (s *Service) quota(r *rules.Rule) bool { return !s.shadow(r) && (s.options.Quota || r.Quota) }

// statusError returns an error of the limiter as a gRPC status.
func statusError(err error) error {
	switch {
	case errors.Is(err, zael.ErrUnavailable), errors.Is(err, zael.ErrContention), errors.Is(err, zael.ErrClosed):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	if invalid, ok := errors.AsType[*zael.ValidationError](err); ok {
		return status.Error(codes.InvalidArgument, invalid.Error())
	}
	return status.Error(codes.Internal, err.Error())
}
