package api_test

import (
	"context"
	"iter"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// namespaces are a store in memory that knows namespaces, with nothing in them.
type namespaces struct {
	*memstore.Store

	all map[string]zael.Namespace
}

func newNamespaces() *namespaces {
	return &namespaces{memstore.New(&memstore.Config{Usage: true}), map[string]zael.Namespace{}}
}

// EditNamespace implements zael.NamespaceStore.
func (s *namespaces) EditNamespace(_ context.Context, name string, event zael.AuditEvent) error {
	n, ok := s.all[name]
	next := zael.NamespaceActive
	switch {
	case event.Action == zael.NamespaceRegistered && ok:
		return nil
	case event.Action == zael.NamespaceRegistered:
		n = zael.Namespace{Name: name, RegisteredAt: event.Time}
	case !ok:
		return zael.ErrNamespaceNotFound
	case event.Action == zael.NamespaceRemoved && n.State == zael.NamespaceActive:
		next = zael.NamespaceDeleted
	case event.Action == zael.NamespaceRecovered && n.State == zael.NamespaceDeleted:
	default:
		return zael.ErrNamespaceState
	}
	n.State, n.ChangedAt = next, event.Time
	s.all[name] = n
	return nil
}

// PurgeNamespace implements zael.NamespaceStore.
func (s *namespaces) PurgeNamespace(ctx context.Context, name string, _ zael.AuditEvent) (int, error) {
	n, err := s.Namespace(ctx, name)
	if err == nil && n.State == zael.NamespaceActive {
		err = zael.ErrNamespaceState
	}
	if err != nil {
		return 0, err
	}
	delete(s.all, name)
	return 7, nil
}

// Namespace implements zael.NamespaceStore.
func (s *namespaces) Namespace(_ context.Context, name string) (zael.Namespace, error) {
	n, ok := s.all[name]
	if !ok {
		return n, zael.ErrNamespaceNotFound
	}
	return n, nil
}

// Namespaces implements zael.NamespaceStore.
func (s *namespaces) Namespaces(context.Context) iter.Seq2[zael.Namespace, error] {
	return func(yield func(zael.Namespace, error) bool) {
		for _, name := range []string{"one", "two"} {
			if n, ok := s.all[name]; ok && !yield(n, nil) {
				return
			}
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	s := setupOn(t, newNamespaces())
	const one = `{"name":"one","state":"active","registered_at":"2026-01-13T14:00:00Z","changed_at":"2026-01-13T14:00:00Z"}`
	for _, c := range []struct {
		tried

		status int
		want   string
	}{
		{tried{"POST", "/v1/namespaces", `{"name":"one"}`}, 201, one},
		{tried{"POST", "/v1/namespaces", `{"name":"one"}`}, 201, one},
		{tried{"POST", "/v1/namespaces", `{"name":"two"}`}, 201, ""},
		{tried{"POST", "/v1/namespaces", `{"name":"a/b"}`}, 400, `"field":"name"`},
		{tried{"GET", "/v1/namespaces?limit=1", ""}, 200, `{"namespaces":[` + one + `],"next":"b25l"}`},
		{tried{"GET", "/v1/namespaces?cursor=b25l", ""}, 200, `{"namespaces":[{"name":"two"`},
		{tried{"GET", "/v1/namespaces/one", ""}, 200, one},
		{tried{"GET", "/v1/namespaces/none", ""}, 404, `"error":"not_found"`},
		{tried{"POST", "/v1/namespaces/one/recover", ""}, 409, `"error":"exists"`},
		{tried{"POST", "/v1/namespaces/one/purge", ""}, 409, `"error":"exists"`},
		{tried{"DELETE", "/v1/namespaces/one", ""}, 200, `"state":"deleted"`},
		{tried{"POST", "/v1/namespaces/one/recover", ""}, 200, `"state":"active"`},
		{tried{"DELETE", "/v1/namespaces/one", ""}, 200, `"state":"deleted"`},
		{tried{"POST", "/v1/namespaces/one/purge", ""}, 200, `{"records":7}`},
		{tried{"DELETE", "/v1/namespaces/one", ""}, 404, `"error":"not_found"`},
	} {
		if got := s.want(c.status, admin, c.method, c.path, c.body); !strings.Contains(got.text, c.want) {
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, got.text, c.want)
		}
	}
}
