package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// RunNamespaces runs the checks of zael.NamespaceStore, each in a parallel subtest. open opens the
// store, which other tests may use as well, in a namespace and registers its cleanup with t; "" is
// the default namespace.
func RunNamespaces(t *testing.T, open func(t *testing.T, namespace string) zael.Store) {
	t.Helper()
	for _, c := range namespaceChecks() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSpaces(func(namespace string) zael.Store { return open(t, namespace) })
			ctx, cancel := context.WithTimeout(t.Context(), patienceOf(t))
			defer cancel()
			if err := c.run(ctx, s); err != nil {
				t.Error(err)
			}
		})
	}
}

// A namespaceCheck tests one sentence of the contract.
type namespaceCheck struct {
	name string
	run  func(ctx context.Context, s *spaces) error
}

func namespaceChecks() []namespaceCheck {
	return []namespaceCheck{
		{"namespaces are registered once, and listed by name", listsNamespaces},
		{"the first administrative change in a namespace registers it", registersItself},
		{"a namespace has buckets, limits and events of its own", keepsApart},
		{"what is deleted refuses, and is recovered as it was", deletesNamespaces},
		{"a change needs the state that it is from", needsState},
		{"a purge removes all of one namespace and nothing of others", purgesNamespaces},
		{"events are in the default namespace", auditsNamespaces},
	}
}

// spaces is a store in any namespace. Names have a prefix of the check's own.
type spaces struct {
	open   func(namespace string) zael.Store
	prefix string
}

func newSpaces(open func(namespace string) zael.Store) *spaces {
	return &spaces{open: open, prefix: "check-" + strings.ToLower(rand.Text()[:12]) + "-"}
}

// in returns a Limiter in a namespace of the check, or in the default one. It reads the state of
// its namespace before each request.
func (s *spaces) in(namespace string) (*zael.Limiter, error) {
	if namespace != "" {
		namespace = s.prefix + namespace
	}
	return zael.New(s.open(namespace), &zael.Config{ConfigTTL: time.Nanosecond, Timeout: time.Minute, Principal: s.prefix})
}

// each returns Limiters in the default namespace and in others.
func (s *spaces) each(namespaces ...string) (admin *zael.Limiter, tenants []*zael.Limiter, err error) {
	if admin, err = s.in(""); err != nil {
		return nil, nil, err
	}
	for _, name := range namespaces {
		l, err := s.in(name)
		if err != nil {
			return nil, nil, err
		}
		tenants = append(tenants, l)
	}
	return admin, tenants, nil
}

// are wants the namespaces of the check, each with its state.
func (s *spaces) are(ctx context.Context, l *zael.Limiter, want ...string) error {
	all, err := l.Namespaces(ctx)
	if err != nil {
		return err
	}
	var got []string
	for _, n := range all {
		if name, ok := strings.CutPrefix(n.Name, s.prefix); ok {
			got = append(got, name+" "+string(n.State))
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("Namespaces: got %q, want %q", got, want)
	}
	return nil
}

// steps runs steps until one fails.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// failing wants an error.
func failing(what string, want error, call func() error) func() error {
	return func() error {
		if err := call(); !errors.Is(err, want) {
			return fmt.Errorf("%s: got %w, want %w", what, orNil(err), want)
		}
		return nil
	}
}

func listsNamespaces(ctx context.Context, s *spaces) error {
	admin, _, err := s.each()
	if err != nil {
		return err
	}
	return steps(
		func() error { return s.are(ctx, admin) },
		func() error { return admin.RegisterNamespace(ctx, s.prefix+"c") },
		func() error { return admin.RegisterNamespace(ctx, s.prefix+"A") },
		func() error { return admin.RegisterNamespace(ctx, s.prefix+"b") },
		func() error { return admin.RegisterNamespace(ctx, s.prefix+"a") },
		func() error { return admin.RegisterNamespace(ctx, s.prefix+"b") },
		func() error { return s.are(ctx, admin, "A active", "a active", "b active", "c active") },
		failing("one that is not there", zael.ErrNamespaceNotFound, func() error {
			_, err := admin.Namespace(ctx, s.prefix+"d")
			return err
		}),
		func() error {
			n, err := admin.Namespace(ctx, s.prefix+"a")
			if err == nil && (n.Name != s.prefix+"a" || n.State != zael.NamespaceActive || n.RegisteredAt.IsZero() || n.ChangedAt.Before(n.RegisteredAt)) {
				err = fmt.Errorf("Namespace: got %+v, want it active, with its times", n)
			}
			return err
		},
	)
}

func registersItself(ctx context.Context, s *spaces) error {
	admin, tenants, err := s.each("a", "b", "c")
	if err != nil {
		return err
	}
	policy := zael.MustPolicy("gpt-4", zael.PerDay("rpd", 3))
	return steps(
		func() error { return tenants[2].Allow(ctx, policy.For("alice")) },
		func() error { return s.are(ctx, admin) }, // a request registers nothing
		func() error {
			_, err := tenants[1].CreateEntity(ctx, zael.Entity{ID: "alice"})
			return err
		},
		func() error { return tenants[0].SetLimits(ctx, zael.Scope{}, []zael.Limit{zael.PerDay("rpd", 3)}) },
		func() error { return s.are(ctx, admin, "a active", "b active") },
	)
}

// took is a request of so many of 3 a day.
func took(ctx context.Context, l *zael.Limiter, n int64) func() error {
	return func() error { return l.Allow(ctx, zael.MustPolicy("gpt-4", zael.PerDay("rpd", 3)).For("alice", n)) }
}

func keepsApart(ctx context.Context, s *spaces) error {
	admin, tenants, err := s.each("a", "a.b")
	if err != nil {
		return err
	}
	a, b := tenants[0], tenants[1]
	return steps(
		took(ctx, a, 3),
		took(ctx, b, 3),
		failing("a fourth", zael.ErrExceeded, took(ctx, a, 1)),
		func() error {
			return a.SetLimits(ctx, zael.Scope{Resource: s.prefix}, []zael.Limit{zael.PerDay("rpd", 5)})
		},
		func() error {
			for _, l := range []*zael.Limiter{b, admin} {
				if got, err := l.Limits(ctx, zael.Scope{Resource: s.prefix}); err != nil || len(got) > 0 {
					return fmt.Errorf("limits of another namespace: got %v (%w), want none", got, orNil(err))
				}
			}
			return nil
		},
		func() error {
			events, err := b.Audit(ctx, zael.AuditQuery{})
			if err == nil && len(events) > 0 {
				err = fmt.Errorf("events of another namespace: got %+v, want none", events)
			}
			return err
		},
	)
}

func deletesNamespaces(ctx context.Context, s *spaces) error {
	admin, tenants, err := s.each("a", "b")
	if err != nil {
		return err
	}
	a := tenants[0]
	var all []func() error
	all = append(all, took(ctx, a, 2), func() error {
		_, err := a.CreateEntity(ctx, zael.Entity{ID: "alice"})
		return err
	}, func() error { return admin.DeleteNamespace(ctx, s.prefix+"a") })
	for what, call := range map[string]func() error{
		"Allow":     took(ctx, a, 1),
		"SetLimits": func() error { return a.SetLimits(ctx, zael.Scope{}, []zael.Limit{zael.PerDay("rpd", 3)}) },
		"SetSwitch": func() error {
			return a.SetSwitch(ctx, zael.Scope{Entity: "alice"}, zael.Disabled, zael.AdminOptions{})
		},
		"CreateEntity": func() error {
			_, err := a.CreateEntity(ctx, zael.Entity{ID: "bob"})
			return err
		},
		"DeleteEntity": func() error { return a.DeleteEntity(ctx, "alice") },
	} {
		all = append(all, failing(what+" in a deleted namespace", zael.ErrNamespaceDeleted, call))
	}
	return steps(append(all,
		took(ctx, tenants[1], 1),
		func() error { return s.are(ctx, admin, "a deleted") },
		func() error { return admin.RecoverNamespace(ctx, s.prefix+"a") },
		func() error { return s.are(ctx, admin, "a active") },
		took(ctx, a, 1),
		failing("a fourth", zael.ErrExceeded, took(ctx, a, 1)),
		func() error {
			_, err := a.Entity(ctx, "alice")
			return err
		},
	)...)
}

func needsState(ctx context.Context, s *spaces) error {
	admin, _, err := s.each()
	if err != nil {
		return err
	}
	name := s.prefix + "a"
	remove := func() error { return admin.DeleteNamespace(ctx, name) }
	restore := func() error { return admin.RecoverNamespace(ctx, name) }
	purge := func() error {
		_, err := admin.PurgeNamespace(ctx, name)
		return err
	}
	return steps(
		failing("deleting what is not there", zael.ErrNamespaceNotFound, remove),
		failing("recovering what is not there", zael.ErrNamespaceNotFound, restore),
		failing("purging what is not there", zael.ErrNamespaceNotFound, purge),
		func() error { return admin.RegisterNamespace(ctx, name) },
		failing("recovering what is active", zael.ErrNamespaceState, restore),
		failing("purging what is active", zael.ErrNamespaceState, purge),
		remove,
		failing("deleting it twice", zael.ErrNamespaceState, remove),
		func() error { return s.are(ctx, admin, "a deleted") },
		purge,
		failing("purging it twice", zael.ErrNamespaceNotFound, purge),
		func() error { return s.are(ctx, admin) },
	)
}

func purgesNamespaces(ctx context.Context, s *spaces) error {
	admin, tenants, err := s.each("a", "a.b")
	if err != nil {
		return err
	}
	name, removed := s.prefix+"a", 0
	all := []func() error{}
	for _, l := range tenants {
		all = append(all, took(ctx, l, 3), func() error {
			_, err := l.CreateEntity(ctx, zael.Entity{ID: "alice"})
			return err
		})
	}
	has := func(l *zael.Limiter, want error) func() error {
		return func() error {
			if _, err := l.Entity(ctx, "alice"); !errors.Is(err, want) {
				return fmt.Errorf("an entity after the purge: got %w, want %w", orNil(err), orNil(want))
			}
			return nil
		}
	}
	return steps(append(all,
		func() error { return admin.DeleteNamespace(ctx, name) },
		func() (err error) {
			removed, err = admin.PurgeNamespace(ctx, name)
			if err == nil && removed < 2 {
				err = fmt.Errorf("PurgeNamespace: got %d records removed, want a bucket and an entity at least", removed)
			}
			return err
		},
		took(ctx, tenants[0], 3), // the name is free, and all of it is new
		has(tenants[0], zael.ErrEntityNotFound),
		failing("what others took", zael.ErrExceeded, took(ctx, tenants[1], 1)),
		has(tenants[1], nil),
	)...)
}

func auditsNamespaces(ctx context.Context, s *spaces) error {
	admin, tenants, err := s.each("b")
	if err != nil {
		return err
	}
	name, since := s.prefix+"a", time.Now().Add(-time.Hour)
	return steps(
		func() error { return tenants[0].RegisterNamespace(ctx, name) },
		func() error { return admin.DeleteNamespace(ctx, name) },
		func() error { return tenants[0].RecoverNamespace(ctx, name) },
		func() error { return admin.DeleteNamespace(ctx, name) },
		func() error {
			_, err := admin.PurgeNamespace(ctx, name)
			return err
		},
		func() error {
			events, err := admin.Audit(ctx, zael.AuditQuery{From: since, Max: 10_000})
			if err != nil {
				return err
			}
			slices.Reverse(events)
			var got []zael.AuditAction
			for _, e := range events {
				if e.Details["namespace"] == name && e.Principal == s.prefix {
					got = append(got, e.Action)
				}
			}
			want := []zael.AuditAction{zael.NamespaceRegistered, zael.NamespaceRemoved, zael.NamespaceRecovered, zael.NamespaceRemoved, zael.NamespacePurged}
			if !slices.Equal(slices.Compact(got), want) {
				return fmt.Errorf("events of the namespace: got %v, want %v", got, want)
			}
			return nil
		},
	)
}
