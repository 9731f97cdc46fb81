package storetest_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/storetest"
)

// A spaced is a reference with namespaces, and what a broken one does otherwise.
type spaced struct {
	mu     sync.Mutex
	stores map[string]*reference
	names  map[string]zael.Namespace // registered

	together   bool // all namespaces are one
	admits     bool // deleted ones too
	anyState   bool
	unsorted   bool
	registers  bool // no change registers its namespace
	keeps      bool // a purge leaves what is there
	prefix     bool // a purge removes all namespaces whose names begin so
	eventsHere bool // not in the default namespace
}

func newSpaced(change func(*spaced)) *spaced {
	w := &spaced{stores: map[string]*reference{}, names: map[string]zael.Namespace{}}
	change(w)
	return w
}

// open returns the store in a namespace.
func (w *spaced) open(namespace string) zael.Store { return &inSpace{w.store(namespace), w, namespace} }

func (w *spaced) store(namespace string) *reference {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.together {
		namespace = ""
	}
	if w.stores[namespace] == nil {
		w.stores[namespace] = newReference()
	}
	return w.stores[namespace]
}

// An inSpace is a spaced store in one namespace. What a purge removes it reads anew.
type inSpace struct {
	*reference

	w    *spaced
	name string
}

// deleted reports whether the namespace is; if it is not there, it is registered.
func (s *inSpace) deleted(registers bool) bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	n, ok := s.w.names[s.name]
	if !ok && registers && s.name != "" && !s.w.registers {
		now := time.Now()
		s.w.names[s.name] = zael.Namespace{Name: s.name, State: zael.NamespaceActive, RegisteredAt: now, ChangedAt: now}
	}
	return ok && n.State != zael.NamespaceActive && !s.w.admits
}

func (s *inSpace) State(ctx context.Context) (zael.StoreState, error) {
	state, err := s.w.store(s.name).State(ctx)
	state.Deleted = s.deleted(false)
	return state, err
}

func (s *inSpace) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	return s.w.store(s.name).Limits(ctx, scopes)
}

func (s *inSpace) Audit(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	return s.w.store(s.name).Audit(ctx, q)
}

func (s *inSpace) Take(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
	return s.w.store(s.name).Take(ctx, now, w, debits)
}

func (s *inSpace) TakeLocal(now time.Time, _ time.Duration, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}

func (s *inSpace) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	return s.w.store(s.name).Entities(ctx, ids)
}

func (s *inSpace) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	if s.deleted(true) {
		return zael.ErrNamespaceDeleted
	}
	return s.w.store(s.name).CreateEntity(ctx, e, event)
}

func (s *inSpace) DeleteEntity(ctx context.Context, id string, event zael.AuditEvent) error {
	if s.deleted(true) {
		return zael.ErrNamespaceDeleted
	}
	return s.w.store(s.name).DeleteEntity(ctx, id, event)
}

func (s *inSpace) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	if s.deleted(true) {
		return 0, zael.ErrNamespaceDeleted
	}
	return s.w.store(s.name).SetLimits(ctx, scope, limits, event)
}

func (s *inSpace) Administer(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
	if s.deleted(true) {
		return zael.EditResult{}, zael.ErrNamespaceDeleted
	}
	return s.w.store(s.name).Administer(ctx, now, edit, once)
}

func (s *inSpace) EditNamespace(_ context.Context, name string, event zael.AuditEvent) error {
	s.w.mu.Lock()
	n, ok := s.w.names[name]
	var from, to zael.NamespaceState
	switch event.Action {
	case zael.NamespaceRegistered:
		to = zael.NamespaceActive
	case zael.NamespaceRemoved:
		from, to = zael.NamespaceActive, zael.NamespaceDeleted
	case zael.NamespaceRecovered:
		from, to = zael.NamespaceDeleted, zael.NamespaceActive
	}
	switch {
	case from == "" && ok:
		s.w.mu.Unlock()
		return nil
	case from != "" && !ok:
		s.w.mu.Unlock()
		return zael.ErrNamespaceNotFound
	case from != n.State && !s.w.anyState:
		s.w.mu.Unlock()
		return zael.ErrNamespaceState
	case from == "":
		n = zael.Namespace{Name: name, RegisteredAt: event.Time}
	}
	n.State, n.ChangedAt = to, event.Time
	s.w.names[name] = n
	s.w.mu.Unlock()
	s.record(event)
	return nil
}

// record records an event about namespaces.
func (s *inSpace) record(event zael.AuditEvent) {
	store := s.w.store("")
	if s.w.eventsHere {
		store = s.w.store(s.name)
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	store.events = append(store.events, event)
}

func (s *inSpace) PurgeNamespace(_ context.Context, name string, event zael.AuditEvent) (int, error) {
	s.w.mu.Lock()
	n, ok := s.w.names[name]
	if !ok || n.State == zael.NamespaceActive && !s.w.anyState {
		s.w.mu.Unlock()
		if !ok {
			return 0, zael.ErrNamespaceNotFound
		}
		return 0, zael.ErrNamespaceState
	}
	delete(s.w.names, name)
	for other := range s.w.stores {
		if !s.w.keeps && (other == name || s.w.prefix && strings.HasPrefix(other, name)) {
			delete(s.w.stores, other)
		}
	}
	s.w.mu.Unlock()
	s.record(event)
	return 2, nil
}

func (s *inSpace) Namespace(_ context.Context, name string) (zael.Namespace, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	n, ok := s.w.names[name]
	if !ok {
		return n, zael.ErrNamespaceNotFound
	}
	return n, nil
}

func (s *inSpace) Namespaces(context.Context) iter.Seq2[zael.Namespace, error] {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var all []zael.Namespace
	for _, n := range s.w.names {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b zael.Namespace) int {
		if s.w.unsorted {
			a, b = b, a
		}
		return strings.Compare(a.Name, b.Name)
	})
	return func(yield func(zael.Namespace, error) bool) {
		for _, n := range all {
			if !yield(n, nil) {
				return
			}
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	w := newSpaced(func(*spaced) {})
	storetest.RunNamespaces(t, func(_ *testing.T, namespace string) zael.Store { return w.open(namespace) })
}

// TestBrokenNamespaces runs the checks on stores that are broken, of which each has to find one.
func TestBrokenNamespaces(t *testing.T) {
	t.Parallel()
	broken := map[string]func(*spaced){
		"namespaces are registered once, and listed by name":              func(w *spaced) { w.unsorted = true },
		"the first administrative change in a namespace registers it":     func(w *spaced) { w.registers = true },
		"a namespace has buckets, limits and events of its own":           func(w *spaced) { w.together = true },
		"what is deleted refuses, and is recovered as it was":             func(w *spaced) { w.admits = true },
		"a change needs the state that it is from":                        func(w *spaced) { w.anyState = true },
		"a purge removes all of one namespace and nothing of others":      func(w *spaced) { w.keeps = true },
		"events are in the default namespace":                             func(w *spaced) { w.eventsHere = true },
		"a purge removes all of one namespace and nothing of others, too": func(w *spaced) { w.prefix = true },
	}
	found := map[string]bool{}
	for name, change := range broken {
		check := strings.TrimSuffix(name, ", too")
		found[check] = true
		if err := storetest.CheckNamespaces(t.Context(), check, newSpaced(change).open); err == nil {
			t.Errorf("%q: got it passed, want it to fail", name)
		} else {
			t.Logf("%q: %v", name, err)
		}
	}
	for _, name := range storetest.NamespaceCheckNames() {
		if !found[name] {
			t.Errorf("check %q: got no broken store that fails it, want one", name)
		}
	}
}
