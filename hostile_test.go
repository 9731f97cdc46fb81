package zael_test

import (
	"context"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/zeroae/zael"
)

// The rules for names, a second time.
var (
	keyPattern  = regexp.MustCompile(`\A[^\p{Cc}\x{2028}\x{2029}]+\z`)
	namePattern = regexp.MustCompile(`\A[A-Za-z][A-Za-z0-9_./-]{0,63}\z`)
)

// sound is what a request must be, written from the documentation.
func sound(req *zael.Request, stored map[zael.Scope][]zael.Limit) bool {
	if !soundKey(req.Entity) || !soundKey(req.Resource) || req.Resource == zael.DefaultResource || req.MaxWait < 0 || req.FailureMode > 2 {
		return false
	}
	known := map[string]bool{}
	for i, limits := range [][]zael.Limit{req.Limits, req.ParentLimits} {
		if len(limits) > 100 {
			return false
		}
		here := map[string]bool{}
		for _, l := range limits {
			if here[l.Name] || !soundLimit(l) {
				return false
			}
			here[l.Name] = true
			if i == 0 || req.Cascade {
				known[l.Name] = true
			}
		}
	}
	for name, n := range req.Consume {
		if n < 0 || n > 1e15 || !req.UseStoredLimits && len(req.Limits) > 0 && !known[name] {
			return false
		}
	}
	return !req.UseStoredLimits || len(req.Consume) == 0 || namesAny(req, stored)
}

// namesAny reports whether a request under stored limits names one that binds it,
// or is bound by none, which is another error.
func namesAny(req *zael.Request, stored map[zael.Scope][]zael.Limit) bool {
	hasParent := req.Entity == "b" || req.Entity == "a" && req.Cascade // b's own flag says so
	binding := func(entity string, limits []zael.Limit) []zael.Limit {
		for _, scope := range []zael.Scope{{Entity: entity, Resource: req.Resource}, {Entity: entity}, {Resource: req.Resource}, {}} {
			if kept := stored[scope]; len(kept) > 0 {
				return kept
			}
		}
		return limits
	}
	all := slices.Clone(binding(req.Entity, req.Limits))
	if len(all) == 0 {
		return true
	}
	if hasParent {
		limits := req.ParentLimits
		if limits == nil {
			limits = req.Limits
		}
		all = append(all, binding("org", limits)...)
	}
	return slices.ContainsFunc(all, func(l zael.Limit) bool { _, named := req.Consume[l.Name]; return named })
}

func soundKey(s string) bool {
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return len(s) <= 256 && utf8.ValidString(s) && keyPattern.MatchString(s) && !unicode.IsSpace(first) && !unicode.IsSpace(last)
}

func soundLimit(l zael.Limit) bool {
	if l.Burst == 0 {
		l.Burst = l.RefillAmount
	}
	perSecond := float64(l.RefillAmount) / l.RefillPeriod.Seconds()
	return namePattern.MatchString(l.Name) &&
		l.RefillAmount >= 1 && l.RefillAmount <= 1e15 && l.Burst >= 1 && l.Burst <= 1e15 &&
		l.RefillPeriod >= time.Second && l.RefillPeriod <= 366*24*time.Hour && perSecond <= 9e9 &&
		(l.Capacity == 0 || l.Capacity >= 1 && l.Capacity <= l.Burst)
}

// mostly draws from good, and now and then from bad.
func mostly[T any](good, bad *rapid.Generator[T]) *rapid.Generator[T] {
	return rapid.Custom(func(t *rapid.T) T {
		if rapid.IntRange(0, 14).Draw(t, "which") == 14 {
			return bad.Draw(t, "bad")
		}
		return good.Draw(t, "good")
	})
}

func hostileText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"", "#", "a#b", "-", "_default_", "a b", "ä", "\x00", strings.Repeat("a", 257), strings.Repeat("a", 65), strings.Repeat("ü", 1024),
	}))
}

func hostileNumbers() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{
		0, -1, 1, 1e15, 1e15 + 1, math.MaxInt64, math.MinInt64, 9e9, 9e9 + 1, int64(time.Second), int64(366 * day),
	}))
}

func hostileLimits() *rapid.Generator[[]zael.Limit] {
	limit := rapid.Custom(func(t *rapid.T) zael.Limit {
		number := func(name string) int64 {
			return mostly(rapid.Int64Range(0, 1000), hostileNumbers()).Draw(t, name)
		}
		return zael.Limit{
			Name:         mostly(rapid.SampledFrom([]string{"rpm", "tpm", "a-b", "a.b", "a/b"}), hostileText()).Draw(t, "name"),
			Burst:        number("burst"),
			RefillAmount: 1 + number("amount"),
			RefillPeriod: time.Duration(mostly(rapid.Int64Range(int64(time.Second), int64(366*day)), hostileNumbers()).Draw(t, "period")),
			Capacity:     mostly(rapid.Just(int64(0)), hostileNumbers()).Draw(t, "capacity"),
		}
	})
	return rapid.Custom(func(t *rapid.T) []zael.Limit {
		limits := rapid.SliceOfN(limit, 0, 3).Draw(t, "limits")
		switch rapid.IntRange(0, 30).Draw(t, "shape") {
		case 0:
			return make([]zael.Limit, rapid.IntRange(1, 200).Draw(t, "zero limits"))
		case 1:
			return nil
		}
		return limits
	})
}

func hostileRequests() *rapid.Generator[zael.Request] {
	return rapid.Custom(func(t *rapid.T) zael.Request {
		req := zael.Request{
			Entity:          mostly(rapid.SampledFrom([]string{"a", "b", "org", "key:1@x"}), hostileText()).Draw(t, "entity"),
			Resource:        mostly(rapid.SampledFrom([]string{"r", "s/t"}), hostileText()).Draw(t, "resource"),
			Limits:          hostileLimits().Draw(t, "limits"),
			Cascade:         rapid.Bool().Draw(t, "cascade"),
			UseStoredLimits: rapid.Bool().Draw(t, "stored"),
			MaxWait:         time.Duration(mostly(rapid.SampledFrom([]int64{0, 0, 1, int64(time.Minute)}), hostileNumbers()).Draw(t, "max wait")),
			FailureMode:     zael.FailureMode(mostly(rapid.ByteMax(2), rapid.Byte()).Draw(t, "mode")),
		}
		if rapid.Bool().Draw(t, "parent has limits") {
			req.ParentLimits = hostileLimits().Draw(t, "parent's limits")
		}
		req.Consume = zael.Amounts{}
		for _, l := range append(req.Limits, req.ParentLimits...) {
			if rapid.IntRange(0, 3).Draw(t, "named") > 0 {
				req.Consume[l.Name] = mostly(rapid.Int64Range(0, 1000), hostileNumbers()).Draw(t, "amount")
			}
		}
		if rapid.IntRange(0, 9).Draw(t, "unknown") == 0 {
			req.Consume[hostileText().Draw(t, "name")] = 1
		}
		return req
	})
}

// expected tells whether err is one that the calls may give.
func expected(err error) bool {
	for _, want := range []error{nil, zael.ErrExceeded, zael.ErrNever, zael.ErrNoLimits} {
		if errors.Is(err, want) {
			return true
		}
	}
	var v *zael.ValidationError
	return errors.As(err, &v)
}

// Arbitrary requests in a row, on one Limiter: nothing panics, and a request is
// a *ValidationError if, and only if, the documentation says so.
func TestArbitraryRequests(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := setup(t)
		for _, e := range []zael.Entity{{ID: "a", ParentID: "org"}, {ID: "b", ParentID: "org", Cascade: true}} {
			if _, err := r.l.CreateEntity(r.ctx, e); err != nil {
				rt.Fatal(err)
			}
		}
		stored := map[zael.Scope][]zael.Limit{}
		for range rapid.IntRange(1, 12).Draw(rt, "requests") {
			req := hostileRequests().Draw(rt, "request")
			r.clock.forward(time.Duration(rapid.Int64Range(-int64(time.Minute), int64(time.Hour)).Draw(rt, "later")))
			check := func(call string, req zael.Request, err error) {
				var v *zael.ValidationError
				if invalid := errors.As(err, &v); !expected(err) || invalid == sound(&req, stored) {
					rt.Fatalf("%s %+v: got %v, want a *ValidationError: %v", call, req, err, !sound(&req, stored))
				}
			}
			check("Allow", req, r.l.Allow(r.ctx, req))
			lease, err := r.l.Reserve(r.ctx, req)
			check("Reserve", req, err)
			if err == nil {
				useLease(r.ctx, rt, lease)
			}
			query := req
			query.MaxWait, query.FailureMode = 0, 0
			_, err = r.l.TimeUntilAvailable(r.ctx, queryOf(query), query.Consume)
			check("TimeUntilAvailable", query, err)
			query.Consume = nil
			_, err = r.l.Available(r.ctx, queryOf(query))
			check("Available", query, err)
			scope := zael.Scope{Entity: req.Entity, Resource: req.Resource}
			if err := r.l.SetLimits(r.ctx, scope, req.Limits); !expected(err) {
				rt.Fatalf("SetLimits %+v: got %v", req, err)
			} else if err == nil {
				if scope.Resource == zael.DefaultResource {
					scope.Resource = ""
				}
				stored[scope] = req.Limits
			}
		}
	})
}

// useLease does arbitrary things to a lease.
func useLease(ctx context.Context, t *rapid.T, lease *zael.Lease) {
	amounts := rapid.MapOfN(
		mostly(rapid.SampledFrom([]string{"rpm", "tpm", "a-b"}), hostileText()),
		mostly(rapid.Int64Range(0, 2000), hostileNumbers()), 0, 3,
	)
	for range rapid.IntRange(0, 3).Draw(t, "calls") {
		a := zael.Amounts(amounts.Draw(t, "amounts"))
		var err error
		switch call := rapid.IntRange(0, 3).Draw(t, "call"); call {
		case 0:
			err = lease.Consume(ctx, a)
		case 1:
			err = lease.Adjust(a)
		case 2:
			err = lease.Release(a)
		case 3:
			err = lease.Settle(a)
		}
		if !expected(err) {
			t.Fatalf("lease with %v: got %v", a, err)
		}
		for name, n := range lease.Consumed() {
			if n < 0 || n > 1e15 {
				t.Fatalf("Consumed %s: got %d, want 0 to 10^15", name, n)
			}
		}
	}
	var err error
	if rapid.Bool().Draw(t, "commit") {
		err = lease.Commit(ctx)
	} else {
		err = lease.Rollback(ctx)
	}
	if !expected(err) {
		t.Fatalf("end of the lease: got %v", err)
	}
}
