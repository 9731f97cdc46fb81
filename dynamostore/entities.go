package dynamostore

import (
	"context"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/stamp"
	"github.com/zeroae/zael/internal/storearg"
)

// mapValue returns a map of texts as an item has it.
func mapValue(field string, m map[string]string) (types.AttributeValue, error) {
	v := &types.AttributeValueMemberM{Value: make(item, len(m))}
	for k, text := range m {
		if !utf8.ValidString(k) || !utf8.ValidString(text) {
			return nil, storearg.Invalid(field, k, "is not UTF-8")
		}
		v.Value[k] = schema.Text(text)
	}
	return v, nil
}

func mapIn(it item, name string) map[string]string {
	v, ok := it[name].(*types.AttributeValueMemberM)
	if !ok {
		return nil
	}
	m := make(map[string]string, len(v.Value))
	for k := range v.Value {
		m[k] = schema.TextIn(v.Value, k)
	}
	return m
}

// CreateEntity implements zael.EntityStore.
func (s *Store) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	if err := checkName("entity", e.ID); err != nil {
		return err
	}
	if err := storable.Name("parent", e.ParentID); err != nil {
		return err
	}
	if !utf8.ValidString(e.Name) {
		return storearg.Invalid("Entity.Name", e.Name, "is not UTF-8")
	}
	created, err := stamp.Checked("Entity.CreatedAt", e.CreatedAt)
	if err != nil {
		return err
	}
	audit, err := s.auditPut(event)
	if err != nil {
		return err
	}
	names := map[string]string{"#created": "created_at", "#name": "name", "#cascade": "cascade"}
	values := item{
		":created": schema.Text(created), ":name": schema.Text(e.Name),
		":cascade": &types.AttributeValueMemberBOOL{Value: e.Cascade},
	}
	sets := []string{"#created = :created", "#name = :name", "#cascade = :cascade"}
	set := func(placeholder, attribute string, v types.AttributeValue) {
		names["#"+placeholder], values[":"+placeholder] = attribute, v
		sets = append(sets, "#"+placeholder+" = :"+placeholder)
	}
	if e.Metadata != nil {
		metadata, err := mapValue("Entity.Metadata", e.Metadata)
		if err != nil {
			return err
		}
		set("metadata", "metadata", metadata)
	}
	if e.ParentID != "" {
		set("parent", "parent", schema.Text(e.ParentID))
		set("gp", "GSI1PK", schema.Text(s.keys.children(e.ParentID)))
		set("gs", "GSI1SK", schema.Text(e.ID))
	}
	failed, err := s.transact(ctx, "creating an entity", types.TransactWriteItem{Update: &types.Update{
		TableName: aws.String(s.table), Key: schema.ItemKey(s.keys.Entity(e.ID), meta),
		ConditionExpression:       aws.String("attribute_not_exists(#created)"), // limits may be there already
		UpdateExpression:          aws.String("SET " + strings.Join(sets, ", ")),
		ExpressionAttributeNames:  names,
		ExpressionAttributeValues: values,
	}}, s.listPut(s.keys.entityList(), e.ID), audit)
	if err == nil && failed >= 0 {
		return zael.ErrEntityExists
	}
	return err
}

// entityOf returns the entity in an item; the zero Entity if there is none, as in an item that
// has limits but was not created.
func (s *Store) entityOf(it item) (zael.Entity, error) {
	created := schema.TextIn(it, "created_at")
	if created == "" {
		return zael.Entity{}, nil
	}
	e := zael.Entity{
		ID:       strings.TrimPrefix(schema.TextIn(it, "PK"), s.keys.Entity("")),
		Name:     schema.TextIn(it, "name"),
		ParentID: schema.TextIn(it, "parent"),
		Metadata: mapIn(it, "metadata"),
	}
	if v, ok := it["cascade"].(*types.AttributeValueMemberBOOL); ok {
		e.Cascade = v.Value
	}
	var err error
	e.CreatedAt, err = stamp.Parse(created)
	return e, err
}

// Entities implements zael.EntityStore.
func (s *Store) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	keys := make([]item, len(ids))
	for i, id := range ids {
		if err := checkName("entity", id); err != nil {
			return nil, err
		}
		keys[i] = schema.ItemKey(s.keys.Entity(id), meta)
	}
	found, err := s.getAll(ctx, "reading entities", keys)
	if err != nil {
		return nil, err
	}
	entities := make([]zael.Entity, len(ids))
	for i, k := range keys {
		if entities[i], err = s.entityOf(found[keyOf(k)]); err != nil {
			return nil, err
		}
	}
	return entities, nil
}

// Children implements zael.EntityStore. It reads the index, which may be a
// moment behind, and then the entities themselves.
func (s *Store) Children(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
	if err := storable.Name("parent", parent); err != nil {
		return pages.Failed[zael.Entity](err)
	}
	const what = "reading children"
	q := query{index: true, pk: s.keys.children(parent)}
	return func(yield func(zael.Entity, error) bool) {
		if parent == "" {
			return
		}
		for page, err := range s.pages(ctx, what, q) {
			var items []item
			if err == nil {
				items, err = s.readByIndex(ctx, what, page)
			}
			if err != nil {
				yield(zael.Entity{}, err)
				return
			}
			for _, it := range items {
				e, err := s.entityOf(it)
				if err == nil && e.ParentID != parent {
					continue // created again since
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// DeleteEntity implements zael.EntityStore. It deletes buckets and usage first
// and the entity's own item, which has its limits, with the event at the end: if it is cut short it can
// be called again.
func (s *Store) DeleteEntity(ctx context.Context, id string, event zael.AuditEvent) error {
	if err := checkName("entity", id); err != nil {
		return err
	}
	audit, err := s.auditPut(event)
	if err != nil {
		return err
	}
	const what = "deleting an entity"
	if err := s.checkActive(ctx, what); err != nil {
		return err
	}
	found, own := false, false
	for _, pk := range []string{s.keys.Usage(id), s.keys.Entity(id)} {
		for page, err := range s.pages(ctx, what, query{pk: pk, keysOnly: true}) {
			if err != nil {
				return err
			}
			var keys []item
			for _, it := range page {
				found = true
				if k := keyOf(it); k[0] == s.keys.Entity(id) && k[1] == meta {
					own = true
				} else {
					keys = append(keys, schema.ItemKey(k[0], k[1]))
				}
			}
			if err := s.deleteAll(ctx, what, keys); err != nil {
				return err
			}
			s.dropBuckets(id, keys)
		}
	}
	if !found {
		return zael.ErrEntityNotFound
	}
	last := &types.Delete{TableName: aws.String(s.table), Key: schema.ItemKey(s.keys.Entity(id), meta)}
	if own {
		last.ConditionExpression = aws.String("attribute_exists(PK)")
	}
	failed, err := s.transact(ctx, what, types.TransactWriteItem{Delete: last},
		s.listDelete(s.keys.entityList(), id), s.listDelete(s.keys.ownerList(), owner(zael.Scope{Entity: id})), audit)
	if err == nil && failed >= 0 {
		return zael.ErrEntityNotFound // somebody else has just deleted it
	}
	return err
}

// dropBuckets forgets what is remembered of buckets that are gone.
func (s *Store) dropBuckets(id string, keys []item) {
	for _, k := range keys {
		if resource, ok := strings.CutPrefix(schema.TextIn(k, "SK"), bucketKey); ok {
			key := zael.Key{Entity: id, Resource: resource}
			s.cache.forget(key)
			s.coalescer.Forget(key)
		}
	}
}
