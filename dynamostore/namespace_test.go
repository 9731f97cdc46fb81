package dynamostore_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/storetest"
)

// A namespaceWorld is one table, with a store in any namespace.
type namespaceWorld struct {
	t    *testing.T
	open func(namespace string) *dynamostore.Store
}

// eachTable runs a test on a table in memory and on the engine.
func eachTable(t *testing.T, f func(*namespaceWorld)) {
	t.Helper()
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		table := dynamofake.New()
		f(&namespaceWorld{t, func(namespace string) *dynamostore.Store {
			s, err := dynamostore.New(table, "fake", &dynamostore.Config{Namespace: namespace, CallTimeout: time.Minute})
			return opened(t, s, err)
		}})
	})
	t.Run("engine", func(t *testing.T) {
		t.Parallel()
		c, _ := newClient(t)
		table := newTable(t, c)
		f(&namespaceWorld{t, func(namespace string) *dynamostore.Store {
			s, err := dynamostore.New(c, table, &dynamostore.Config{Namespace: namespace, CallTimeout: time.Minute})
			return opened(t, s, err)
		}})
	})
}

// limiter returns a Limiter in a namespace, which reads its state before every request.
func (w *namespaceWorld) limiter(namespace string) *zael.Limiter {
	w.t.Helper()
	l, err := zael.New(w.open(namespace), &zael.Config{ConfigTTL: time.Nanosecond, Timeout: time.Minute, Principal: "ann"})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *namespaceWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// is wants the registered namespaces, each with its state.
func (w *namespaceWorld) is(l *zael.Limiter, want ...string) {
	w.t.Helper()
	all, err := l.Namespaces(w.t.Context())
	w.must(err)
	got := []string{}
	for _, n := range all {
		got = append(got, n.Name+" "+string(n.State))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("got the namespaces %q, want %q", got, want)
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	eachTable(t, func(w *namespaceWorld) {
		storetest.RunNamespaces(w.t, func(_ *testing.T, namespace string) zael.Store { return w.open(namespace) })
	})
}

// Trap of zae-limiter 0.17: a running process goes on admitting in a deleted namespace.
func TestTrapRunningInADeletedNamespace(t *testing.T) {
	t.Parallel()
	eachTable(t, func(w *namespaceWorld) {
		t, ctx := w.t, w.t.Context()
		admin, tenant := w.limiter(""), w.limiter("team-a")
		w.is(admin)
		w.must(admin.RegisterNamespace(ctx, "team-b"))
		w.must(admin.RegisterNamespace(ctx, "team-b"))
		policy := zael.MustPolicy("gpt-4", zael.PerDay("rpd", 3))
		w.must(tenant.Allow(ctx, policy.For("alice")))
		w.is(admin, "team-b active") // a request registers nothing
		_, err := tenant.CreateEntity(ctx, zael.Entity{ID: "alice"})
		w.must(err)
		w.is(admin, "team-a active", "team-b active")

		w.must(admin.DeleteNamespace(ctx, "team-a"))
		if err := admin.DeleteNamespace(ctx, "team-a"); !errors.Is(err, zael.ErrNamespaceState) {
			t.Errorf("deleting it twice: got %v, want ErrNamespaceState", err)
		}
		w.is(admin, "team-a deleted", "team-b active")
		for name, err := range map[string]error{
			"Allow":     tenant.Allow(ctx, policy.For("alice")),
			"SetLimits": tenant.SetLimits(ctx, zael.Scope{}, []zael.Limit{zael.PerDay("rpd", 3)}),
			"SetSwitch": tenant.SetSwitch(ctx, zael.Scope{Entity: "alice"}, zael.Enabled, zael.AdminOptions{}),
			"Delete":    tenant.DeleteEntity(ctx, "alice"),
		} {
			if !errors.Is(err, zael.ErrNamespaceDeleted) {
				t.Errorf("%s in a deleted namespace: got %v, want ErrNamespaceDeleted", name, err)
			}
		}
		w.must(admin.RecoverNamespace(ctx, "team-a"))
		w.must(tenant.Allow(ctx, policy.For("alice")))
		w.must(tenant.Allow(ctx, policy.For("alice")))
		if err := tenant.Allow(ctx, policy.For("alice")); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("got %v, want the bucket as it was before", err)
		}
		if _, err := tenant.Entity(ctx, "alice"); err != nil {
			t.Errorf("got %v, want the entity to be recovered", err)
		}
		if n, err := admin.Namespace(ctx, "team-a"); err != nil || n.State != zael.NamespaceActive || n.ChangedAt.Before(n.RegisteredAt) || n.RegisteredAt.IsZero() {
			t.Errorf("got %+v (%v), want it active, with its times", n, err)
		}
	})
}

func TestNamespacePurge(t *testing.T) {
	t.Parallel()
	eachTable(t, func(w *namespaceWorld) {
		t, ctx := w.t, w.t.Context()
		admin, tenant, near := w.limiter(""), w.limiter("team-a"), w.limiter("team")
		policy := zael.MustPolicy("gpt-4", zael.PerDay("rpd", 3))
		for i := range 60 {
			w.must(tenant.Allow(ctx, policy.For(string(rune('a'+i%26))+string(rune('a'+i/26)))))
		}
		for _, l := range []*zael.Limiter{admin, tenant, near} {
			w.must(l.Allow(ctx, policy.For("team-a/x", 3)))
			_, err := l.CreateEntity(ctx, zael.Entity{ID: "team-a/x"})
			w.must(err)
		}
		if _, err := admin.PurgeNamespace(ctx, "team-a"); !errors.Is(err, zael.ErrNamespaceState) {
			t.Errorf("purging an active one: got %v, want ErrNamespaceState", err)
		}
		w.must(admin.DeleteNamespace(ctx, "team-a"))
		records, err := admin.PurgeNamespace(ctx, "team-a")
		w.must(err)
		if want := 61 + 1 + 1; records < want { // buckets, an entity, its event
			t.Errorf("got %d records removed, want at least %d", records, want)
		}
		w.is(admin, "team active")
		if _, err := admin.PurgeNamespace(ctx, "team-a"); !errors.Is(err, zael.ErrNamespaceNotFound) {
			t.Errorf("purging it twice: got %v, want ErrNamespaceNotFound", err)
		}
		// The name is free, and what was there is gone; others have what they had.
		w.must(tenant.Allow(ctx, policy.For("team-a/x", 3)))
		if _, err := tenant.Entity(ctx, "team-a/x"); !errors.Is(err, zael.ErrEntityNotFound) {
			t.Errorf("got %v, want the entity to be gone", err)
		}
		for _, l := range []*zael.Limiter{admin, near} {
			if err := l.Allow(ctx, policy.For("team-a/x")); !errors.Is(err, zael.ErrExceeded) {
				t.Errorf("got %v, want the buckets of others to stay", err)
			}
			if _, err := l.Entity(ctx, "team-a/x"); err != nil {
				t.Errorf("got %v, want the entities of others to stay", err)
			}
		}
	})
}

// Trap of zae-limiter 0.17: a purge that leaves items behind cannot be found again.
func TestTrapInterruptedPurge(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	table := &interrupted{Table: dynamofake.New(), left: 1}
	s, err := dynamostore.New(table, "fake", patient())
	opened(t, s, err)
	tenant, err := dynamostore.New(table.Table, "fake", &dynamostore.Config{Namespace: "team-a", CallTimeout: time.Minute})
	opened(t, tenant, err)
	l, _ := zael.New(tenant, &zael.Config{Timeout: time.Minute})
	admin, _ := zael.New(s, &zael.Config{Timeout: time.Minute})
	policy := zael.MustPolicy("gpt-4", zael.PerDay("rpd", 3))
	for i := range 100 {
		if err := l.Allow(ctx, policy.For(string(rune('a'+i%26))+string(rune('a'+i/26)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(admin.RegisterNamespace(ctx, "team-a"), admin.DeleteNamespace(ctx, "team-a")); err != nil {
		t.Fatal(err)
	}
	removed, err := admin.PurgeNamespace(ctx, "team-a")
	if err == nil {
		t.Fatal("got no error, want the interruption")
	}
	if n, err := admin.Namespace(ctx, "team-a"); err != nil || n.State != zael.NamespacePurging {
		t.Errorf("got %+v (%v), want it to be shown as purging", n, err)
	}
	if err := admin.RecoverNamespace(ctx, "team-a"); !errors.Is(err, zael.ErrNamespaceState) {
		t.Errorf("recovering it: got %v, want ErrNamespaceState", err)
	}
	table.left = 1000
	rest, err := admin.PurgeNamespace(ctx, "team-a")
	if err != nil || removed+rest < 100 {
		t.Errorf("got %d and %d records removed (%v), want all 100", removed, rest, err)
	}
	if all, err := admin.Namespaces(ctx); err != nil || len(all) != 0 {
		t.Errorf("got %v (%v), want none left", all, err)
	}
}

// interrupted is a table that fails after some scans.
type interrupted struct {
	*dynamofake.Table

	left int
}

func (i *interrupted) Scan(ctx context.Context, in *dynamodb.ScanInput, options ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	if i.left--; i.left < 0 {
		return nil, errors.New("the machine was switched off")
	}
	return i.Table.Scan(ctx, in, options...)
}

// Traps of zae-limiter 0.17: names are not validated, the default namespace can be
// deleted, nothing is audited.
func TestTrapNamespaceNamesAndAudit(t *testing.T) {
	t.Parallel()
	eachTable(t, func(w *namespaceWorld) {
		t, ctx := w.t, w.t.Context()
		admin := w.limiter("")
		for _, name := range []string{"", "a/b", "a#b", "a b", "ä", string(make([]byte, 65))} {
			err := admin.RegisterNamespace(ctx, name)
			if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
				t.Errorf("registering %q: got %v, want a ValidationError", name, err)
			}
			if _, ok := errors.AsType[*zael.ValidationError](admin.DeleteNamespace(ctx, name)); !ok {
				t.Errorf("deleting %q: got no ValidationError", name)
			}
		}
		if err := admin.DeleteNamespace(ctx, "unheard-of"); !errors.Is(err, zael.ErrNamespaceNotFound) {
			t.Errorf("deleting one that is not registered: got %v, want ErrNamespaceNotFound", err)
		}
		w.must(admin.RegisterNamespace(ctx, "team-a"))
		w.must(w.limiter("team-b").DeleteNamespace(ctx, "team-a")) // from another one
		w.must(admin.RecoverNamespace(ctx, "team-a"))
		w.must(admin.DeleteNamespace(ctx, "team-a"))
		_, err := admin.PurgeNamespace(ctx, "team-a")
		w.must(err)
		events, err := admin.Audit(ctx, zael.AuditQuery{})
		w.must(err)
		slices.Reverse(events)
		var got []zael.AuditAction
		for _, e := range events {
			got = append(got, e.Action)
			if e.Principal != "ann" || e.Details["namespace"] != "team-a" {
				t.Errorf("got %+v, want who did it, and to what", e)
			}
		}
		want := []zael.AuditAction{zael.NamespaceRegistered, zael.NamespaceRemoved, zael.NamespaceRecovered, zael.NamespaceRemoved, zael.NamespacePurged, zael.NamespacePurged}
		if !slices.Equal(got, want) {
			t.Errorf("got the actions %v, want %v", got, want)
		}
	})
}
