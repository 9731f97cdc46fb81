package rls_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/rls"
)

// plainLeases are not signed.
type plainLeases struct{}

// Text implements rls.Leases.
func (plainLeases) Text(_ context.Context, d *zael.DetachedLease) (string, error) {
	b, err := d.MarshalBinary()
	return string(b), err
}

// Parse implements rls.Leases.
func (plainLeases) Parse(_ context.Context, text string) (*zael.DetachedLease, error) {
	d := new(zael.DetachedLease)
	if err := d.UnmarshalBinary([]byte(text)); err != nil {
		return nil, rls.ErrNoReservation
	}
	return d, nil
}

func reservation(n uint64, descriptors ...string) *rls.Reservation {
	r := &rls.Reservation{Domain: "d", Amount: n}
	for _, text := range descriptors {
		r.Descriptors = append(r.Descriptors, descriptor(text))
	}
	return r
}

// left returns what is left of the limits of descriptors, as a check tells it.
func (b *bench) left(descriptors ...string) string {
	b.t.Helper()
	r := &pb.RateLimitRequest{Domain: "d"}
	for _, text := range descriptors {
		r.Descriptors = append(r.Descriptors, descriptor(text))
	}
	a, err := b.service.Check(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	var all []string
	for _, st := range a.GetStatuses() {
		all = append(all, fmt.Sprint(st.GetLimitRemaining()))
	}
	return word(a.GetOverallCode()) + " " + strings.Join(all, " ")
}

func TestReservations(t *testing.T) {
	t.Parallel()
	b := newBench(t, &rls.Options{})
	reserve := func(n uint64, descriptors ...string) (string, bool) {
		t.Helper()
		id, ok, err := b.service.Reserve(t.Context(), reservation(n, descriptors...), plainLeases{})
		if err != nil {
			t.Fatal(err)
		}
		return id, ok
	}
	commit := func(id string, n uint64, descriptors ...string) bool {
		t.Helper()
		released, err := b.service.Commit(t.Context(), id, reservation(n, descriptors...), plainLeases{})
		if err != nil {
			t.Fatal(err)
		}
		return released
	}
	both := []string{"tokens=a", "team=x"}

	// An estimate is held, and settled to the truth: less, and more.
	first, ok := reserve(8, both...)
	if got := b.left(both...); !ok || got != "ok 52 2" {
		t.Errorf("reserved 8: got %t and %s", ok, got)
	}
	if _, ok := reserve(3, both...); ok || b.left(both...) != "ok 52 2" {
		t.Errorf("3 more, of which 2 are left: got %t and %s, want that nothing is taken", ok, b.left(both...))
	}
	if released := commit(first, 5, both...); !released || b.left(both...) != "ok 55 5" {
		t.Errorf("5 were used: got %t and %s", released, b.left(both...))
	}
	if released := commit(first, 5, both...); !released || b.left(both...) != "ok 55 5" {
		t.Errorf("told twice: got %t and %s, want no change", released, b.left(both...))
	}
	second, _ := reserve(1, both...)
	if commit(second, 9, both...); b.left(both...) != "OVER 46 0" {
		t.Errorf("9 were used of 1: got %s, want debt", b.left(both...))
	}

	// What is not known any more is charged.
	third, _ := reserve(10, "tokens=b")
	b.at(time.Hour)
	if released := commit(third, 20, "tokens=b"); released || b.left("tokens=b") != "ok 40" {
		t.Errorf("too late: got %t and %s, want that 20 are charged", released, b.left("tokens=b"))
	}
	if released := commit("stranger", 7, "tokens=b"); released || b.left("tokens=b") != "ok 33" {
		t.Errorf("of another: got %t and %s, want that 7 are charged", released, b.left("tokens=b"))
	}
	if released := commit("", 3, "tokens=b"); released || b.left("tokens=b") != "ok 30" {
		t.Errorf("without an id: got %t and %s, want that 3 are charged", released, b.left("tokens=b"))
	}

	// What nothing limits is admitted without a reservation, and a limit of 0 refuses.
	if id, ok := reserve(5, "host=a"); id != "" || !ok {
		t.Errorf("without a rule: got %q and %t", id, ok)
	}
	if _, ok := reserve(5, "none=a"); ok {
		t.Error("of a limit of 0: got a reservation")
	}
	for name, err := range map[string]error{
		"reserve": second2(b.service.Reserve(t.Context(), reservation(1<<63, both...), plainLeases{})),
		"commit":  secondOf(b.service.Commit(t.Context(), "", reservation(1<<63, both...), plainLeases{})),
		"empty":   second2(b.service.Reserve(t.Context(), reservation(1), plainLeases{})),
	} {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: got %v, want InvalidArgument", name, err)
		}
	}
}

func secondOf(_ bool, err error) error { return err }

func second2(_ string, _ bool, err error) error { return err }

// A check takes nothing, and a report is never refused.
func TestCheckAndReport(t *testing.T) {
	t.Parallel()
	b := newBench(t, &rls.Options{})
	report := func(n uint32, text string) *pb.RateLimitResponse {
		t.Helper()
		a, err := b.service.Report(t.Context(), &pb.RateLimitRequest{Domain: "d", HitsAddend: n, Descriptors: []*common.RateLimitDescriptor{descriptor(text)}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if got := b.left("team=x", "user=a"); got != "ok 10 6" {
		t.Errorf("at first: got %s", got)
	}
	if a := report(12, "team=x"); a.GetOverallCode() != pb.RateLimitResponse_OK {
		t.Errorf("a report: got %v", a)
	}
	if got := b.left("team=x", "user=a"); got != "OVER 0 6" {
		t.Errorf("after a report: got %s", got)
	}
}

// noLeases cannot be written.
type noLeases struct{ plainLeases }

// Text implements rls.Leases.
func (noLeases) Text(context.Context, *zael.DetachedLease) (string, error) {
	return "", zael.ErrUnavailable
}

// TestReservationWithoutID: what nobody can commit is given back.
func TestReservationWithoutID(t *testing.T) {
	t.Parallel()
	b := newBench(t, &rls.Options{})
	_, _, err := b.service.Reserve(t.Context(), reservation(8, "tokens=a", "team=x"), noLeases{})
	if got := b.left("tokens=a", "team=x"); status.Code(err) != codes.Unavailable || got != "ok 60 10" {
		t.Errorf("got %v and %s, want Unavailable and that nothing is taken", err, got)
	}
}
