// Package edge has what the edges of a program share: how a call becomes a request, and
// how its lease ends.
package edge

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/zeroae/zael"
)

// A Source makes requests for calls, from a policy and a key or by a function. C is what
// the edge knows of a call. The fields are the arguments of the edge's New, and fields of
// its Config.
type Source[C any] struct {
	Call string // what a call is in messages, such as "request"
	Keys string // examples of keys in messages

	Policy *zael.Policy
	Key    func(C) (string, error)

	Request     func(C) (zael.Request, error)
	Cost        func(C) (zael.Amounts, error)
	Cascade     bool
	MaxWait     time.Duration
	FailureMode zael.FailureMode
}

// Invalid returns an error about an argument or a field.
func Invalid(field, reason string) error {
	return &zael.ValidationError{Field: field, Reason: reason}
}

// Validate returns an error unless requests can be made, for a limiter.
func (s *Source[C]) Validate(limiter *zael.Limiter) error {
	switch own := s.Request != nil; {
	case limiter == nil:
		return Invalid("limiter", "is nil: pass what zael.New returned")
	case own && s.Policy != nil:
		return Invalid("policy", "is not used with Config.Request: pass nil")
	case own && s.Key != nil:
		return Invalid("key", "is not used with Config.Request: pass nil")
	case own && s.Cost != nil:
		return Invalid("Config.Cost", "is not used with Config.Request: set the amounts there")
	case !own && s.Policy == nil:
		return Invalid("policy", "is nil: pass one of zael.NewPolicy or zael.StoredPolicy, or set Config.Request")
	case !own && s.Key == nil:
		return Invalid("key", "is nil: pass one, such as "+s.Keys+" for one bucket for all")
	case s.MaxWait < 0:
		return Invalid("Config.MaxWait", "is negative: use 0 not to wait")
	}
	return nil
}

// Of returns what to acquire for a call. An error is about the call.
func (s *Source[C]) Of(call C) (req zael.Request, err error) {
	if s.Request != nil {
		req, err = s.Request(call)
	} else {
		req, err = s.ofPolicy(call)
	}
	if err != nil {
		return req, err
	}
	if req.Entity == "" {
		return req, errors.New("the " + s.Call + " has no key for its limits")
	}
	req.Cascade = req.Cascade || s.Cascade
	req.MaxWait = cmp.Or(req.MaxWait, s.MaxWait)
	req.FailureMode = cmp.Or(req.FailureMode, s.FailureMode)
	return req, nil
}

func (s *Source[C]) ofPolicy(call C) (zael.Request, error) {
	key, err := s.Key(call)
	if err != nil {
		return zael.Request{}, err
	}
	req := s.Policy.For(key)
	if s.Cost != nil {
		req.Consume, err = s.Cost(call)
	}
	return req, err
}

// Settle records what settle says that a call has used, unless something was recorded in
// the lease, and commits the lease, also if ctx has ended. settle may be nil. report is
// called with errors, except that the lease was ended before.
func Settle(ctx context.Context, lease *zael.Lease, settle func() zael.Amounts, report func(error)) {
	if settle != nil && !lease.Recorded() {
		reportEnd(lease.Settle(settle()), report)
	}
	reportEnd(lease.Commit(ctx), report)
}

func reportEnd(err error, report func(error)) {
	if err != nil && !errors.Is(err, zael.ErrLeaseClosed) {
		report(err)
	}
}
