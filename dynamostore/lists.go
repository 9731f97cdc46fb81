package dynamostore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/prefix"
	"github.com/zeroae/zael/internal/recent"
	"github.com/zeroae/zael/internal/schema"
)

// Lists are partitions of items that are keys alone, each written when what it names is made:
// an entity and the owner of stored limits in the same transaction, a resource after the write
// that made a bucket, once in a process.
func (k keys) entityList() string   { return k.Prefix + "L#E" } // sort key: the ID
func (k keys) ownerList() string    { return k.Prefix + "L#S" } // sort key: as owner returns it
func (k keys) resourceList() string { return k.Prefix + "L#R" } // sort key: the name

// What the sort keys of the list of owners begin with.
const (
	resourceOwner = "R#"
	entityOwner   = "S#"
)

// An owner has limits in an item of its own: an entity, for all resources, or a resource; the
// system, the zero owner, is in no list.
func owner(s zael.Scope) string {
	switch {
	case s.Entity != "":
		return entityOwner + s.Entity
	case s.Resource != "":
		return resourceOwner + s.Resource
	}
	return ""
}

// listPut is the write of an item of a list.
func (s *Store) listPut(list, name string) types.TransactWriteItem {
	return types.TransactWriteItem{Put: &types.Put{TableName: aws.String(s.table), Item: schema.ItemKey(list, name)}}
}

func (s *Store) listDelete(list, name string) types.TransactWriteItem {
	return types.TransactWriteItem{Delete: &types.Delete{TableName: aws.String(s.table), Key: schema.ItemKey(list, name)}}
}

// ownerPuts are the writes that list the owner of the first limits of a scope.
func (s *Store) ownerPuts(scope zael.Scope) []types.TransactWriteItem {
	var puts []types.TransactWriteItem
	if name := owner(scope); name != "" {
		puts = append(puts, s.listPut(s.keys.ownerList(), name))
	}
	if scope.Entity == "" && scope.Resource != "" {
		puts = append(puts, s.listPut(s.keys.resourceList(), scope.Resource))
	}
	return puts
}

// A resourceRegistry has the resources that this process has put on the list.
type resourceRegistry struct {
	mu    sync.Mutex
	known *recent.Map[string, struct{}]
}

const knownResources = 1024

func newResourceRegistry() *resourceRegistry {
	return &resourceRegistry{known: recent.New[string, struct{}](knownResources)}
}

// add reports whether a resource was not known. It is now.
func (r *resourceRegistry) add(resource string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.known.Get(resource); known {
		return false
	}
	r.known.Put(resource, struct{}{})
	return true
}

func (r *resourceRegistry) forget(resource string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known.Delete(resource)
}

// listResource puts the resource of a bucket that was just made on the list, in the
// background, unless this process has done so before. If that fails for a time, it is
// tried again when another bucket is made.
func (s *Store) listResource(ctx context.Context, resource string) {
	if !s.resources.add(resource) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	s.inflight.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, s.config.CallTimeout)
		defer cancel()
		out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: aws.String(s.table), Key: schema.ItemKey(s.keys.resourceList(), resource), ReturnConsumedCapacity: s.capacity(),
		}, noRetries)
		if err == nil {
			s.units(out.ConsumedCapacity, false)
			return
		}
		if errors.Is(s.translate(ctx, "listing a resource", err), zael.ErrUnavailable) || ctx.Err() != nil {
			s.resources.forget(resource)
		}
	})
}

// listed returns the query of the names that q selects, and perhaps the end of the prefix.
func listed(list, before string, q zael.ListQuery) query {
	from := q.Prefix
	if q.After != "" && q.After >= from {
		from = q.After + "\x00" // the least text above it
	}
	return query{pk: list, from: before + from, to: prefix.End(before + q.Prefix), keysOnly: true, limit: int32(min(q.Max, mostListed)) + 1} //nolint:gosec // it is small
}

const mostListed = 1000 // items of a list in one call

func checkList(q zael.ListQuery) error {
	if err := storable.Name("prefix", q.Prefix); err != nil {
		return err
	}
	return storable.Name("after", q.After)
}

// names returns up to q.Max sort keys of a list, without what they begin with.
func (s *Store) names(ctx context.Context, what, list, before string, q zael.ListQuery) ([]string, error) {
	names := []string{}
	for page, err := range s.pages(ctx, what, listed(list, before, q)) {
		if err != nil {
			return nil, err
		}
		for _, it := range page {
			if name := strings.TrimPrefix(schema.TextIn(it, "SK"), before); q.Selects(name) {
				names = append(names, name)
			}
		}
		if len(names) >= q.Max {
			return names[:q.Max], nil
		}
	}
	return names, nil
}

// ListEntities implements zael.ListStore.
func (s *Store) ListEntities(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error) {
	if err := checkList(q); err != nil {
		return nil, err
	}
	entities := []zael.Entity{}
	for want := q.Max; ; {
		ids, err := s.names(ctx, "listing entities", s.keys.entityList(), "", q)
		if err != nil {
			return nil, err
		}
		found, err := s.Entities(ctx, ids)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if found[i].ID != "" { // else it was deleted since
				entities = append(entities, found[i])
			}
		}
		if len(ids) < q.Max || len(entities) == want {
			return entities, nil
		}
		q.After, q.Max = ids[len(ids)-1], want-len(entities)
	}
}

// ListScopes implements zael.ListStore. An owner whose limits were all deleted stays in
// the list, and is passed over.
func (s *Store) ListScopes(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error) {
	if err := storable.Name("prefix", q.Prefix); err != nil {
		return nil, err
	}
	if q.After != nil {
		if err := storable.Key(zael.Key(*q.After)); err != nil {
			return nil, err
		}
	}
	found := []zael.ScopeLimits{}
	add := func(scopes []zael.ScopeLimits) (full bool) {
		for _, l := range scopes {
			if full = len(found) == q.Max; full {
				break
			}
			if q.Selects(l.Scope) {
				found = append(found, l)
			}
		}
		return len(found) == q.Max
	}
	if q.Selects(zael.Scope{}) {
		system, err := s.ownedLimits(ctx, []zael.Scope{{}})
		if err != nil || add(system) {
			return found, err
		}
	}
	after := zael.Scope{}
	if q.After != nil {
		after = *q.After
	}
	if after.Entity == "" && q.Prefix == "" {
		names := zael.ListQuery{After: after.Resource, Max: q.Max}
		if full, err := s.eachOwner(ctx, resourceOwner, names, func(name string) zael.Scope { return zael.Scope{Resource: name} }, add); err != nil || full {
			return found, err
		}
	}
	if after.Entity != "" { // the rest of its limits
		rest, err := s.ownedLimits(ctx, []zael.Scope{{Entity: after.Entity}})
		if err != nil || add(rest) {
			return found, err
		}
	}
	names := zael.ListQuery{Prefix: q.Prefix, After: after.Entity, Max: q.Max}
	_, err := s.eachOwner(ctx, entityOwner, names, func(name string) zael.Scope { return zael.Scope{Entity: name} }, add)
	return found, err
}

// eachOwner calls add with the limits of owners, by their names, until it says that there
// are enough.
func (s *Store) eachOwner(ctx context.Context, before string, q zael.ListQuery, scope func(string) zael.Scope, add func([]zael.ScopeLimits) bool) (full bool, err error) {
	for {
		names, err := s.names(ctx, "listing limits", s.keys.ownerList(), before, q)
		if err != nil {
			return false, err
		}
		owners := make([]zael.Scope, len(names))
		for i, name := range names {
			owners[i] = scope(name)
		}
		limits, err := s.ownedLimits(ctx, owners)
		if err != nil {
			return false, err
		}
		if add(limits) {
			return true, nil
		}
		if len(names) < q.Max {
			return false, nil
		}
		q.After = names[len(names)-1]
	}
}

// ownedLimits reads all limits of owners, in their order: of an entity by resource.
func (s *Store) ownedLimits(ctx context.Context, owners []zael.Scope) ([]zael.ScopeLimits, error) {
	itemKeys := make([]item, len(owners))
	for i, o := range owners {
		pk, _ := s.keys.scope(o)
		itemKeys[i] = schema.ItemKey(pk, meta)
	}
	found, err := s.getAll(ctx, "listing limits", itemKeys)
	if err != nil {
		return nil, err
	}
	var all []zael.ScopeLimits
	for i, o := range owners {
		it := found[keyOf(itemKeys[i])]
		for _, attribute := range slices.Sorted(maps.Keys(it)) {
			resource, ok := strings.CutPrefix(attribute, limitsAttribute)
			if !ok {
				continue
			}
			set, err := limitSetOf(it[attribute])
			if err != nil {
				return nil, err
			}
			if len(set.Limits) > 0 {
				if o.Entity == "" {
					resource = o.Resource
				}
				all = append(all, zael.ScopeLimits{Scope: zael.Scope{Entity: o.Entity, Resource: resource}, Limits: set.Limits})
			}
		}
	}
	return all, nil
}

// ListResources implements zael.ListStore. A resource stays in the list.
func (s *Store) ListResources(ctx context.Context, q zael.ListQuery) ([]string, error) {
	if err := checkList(q); err != nil {
		return nil, err
	}
	return s.names(ctx, "listing resources", s.keys.resourceList(), "", q)
}
