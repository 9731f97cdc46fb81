package dynamostore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/stamp"
	"github.com/zeroae/zael/internal/storearg"
)

// onceKey precedes the key of a change that is made once, in sort keys of the system's
// partition. Its item has hash, until, result and ttl.
const onceKey = "#ONCE#"

// A change is an administrative change, ready to be written: it was made from what was read.
type change struct {
	writes []types.TransactWriteItem
	result zael.EditResult
	done   bool // there is nothing to write
}

// Administer implements zael.AdminStore. A change, its event and its key are one
// transaction, under the condition that what was read for it still holds; if it does
// not, Administer reads again.
func (s *Store) Administer(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
	const what = "administration"
	scope := edit.Scope()
	if err := storable.Key(zael.Key(scope)); err != nil {
		return zael.EditResult{}, err
	}
	if err := storable.Name("idempotency key", once.Key); err != nil {
		return zael.EditResult{}, err
	}
	if _, err := stamp.Checked("now", now); err != nil {
		return zael.EditResult{}, err
	}
	for n := 0; ; n++ {
		c, err := s.planChange(ctx, now, &edit, once)
		if err != nil {
			return zael.EditResult{}, err
		}
		failed := -1
		if !c.done {
			failed, err = s.transact(ctx, what, c.writes...)
		}
		if err != nil {
			return zael.EditResult{}, err
		}
		if failed < 0 {
			return c.result, s.applyChange(ctx, &edit)
		}
		if n >= 10*maxRetries {
			return zael.EditResult{}, fmt.Errorf("dynamostore: %s: %w", what, zael.ErrContention)
		}
		if err := pause.Backoff(ctx, n, raceBase, retryMost); err != nil {
			return zael.EditResult{}, s.translate(ctx, what, err)
		}
	}
}

// planChange reads what an edit needs, and returns what is to be written.
func (s *Store) planChange(ctx context.Context, now time.Time, edit *zael.Edit, once zael.Once) (change, error) {
	known, result, err := s.readOnce(ctx, now, once)
	if err != nil || known {
		return change{result: result, done: true}, err
	}
	var c change
	switch edits.KindOf(edit) {
	case edits.Settings:
		c, err = s.settingsChange(ctx, edit)
	case edits.Bucket:
		c, err = s.fillChange(ctx, now, edit)
	case edits.Parent:
		c, err = s.parentChange(ctx, edit.Entity.ID, edit.Entity.ParentID)
	default:
		err = edits.Refused(edit)
	}
	if err != nil {
		return c, err
	}
	if !c.done {
		audit, err := s.auditPut(edit.Event)
		if err != nil {
			return c, err
		}
		c.writes = append(c.writes, audit)
	}
	if once.Key != "" {
		put, err := s.oncePut(now, once, c.result)
		if err != nil {
			return c, err
		}
		c.writes, c.done = append(c.writes, put), false
	}
	return c, nil
}

func (s *Store) onceItem(key string) item { return schema.ItemKey(s.keys.System(), onceKey+key) }

// readOnce reports whether a key was used for this change, and reads its result.
func (s *Store) readOnce(ctx context.Context, now time.Time, once zael.Once) (known bool, result zael.EditResult, err error) {
	if once.Key == "" {
		return false, result, nil
	}
	key := s.onceItem(once.Key)
	found, err := s.getAll(ctx, "reading an idempotency key", []item{key})
	if err != nil {
		return false, result, err
	}
	it := found[keyOf(key)]
	if it == nil || schema.TextIn(it, "until") <= stamp.Text(now) {
		return false, result, nil
	}
	if schema.TextIn(it, "hash") != once.Hash {
		return false, result, zael.ErrKeyUsed
	}
	if err := json.Unmarshal([]byte(schema.TextIn(it, "result")), &result); err != nil {
		return false, result, fmt.Errorf("dynamostore: the result of idempotency key %q: %w", once.Key, err)
	}
	result.Repeated = true
	return true, result, nil
}

// oncePut is the write of a key, unless somebody else has just used it.
func (s *Store) oncePut(now time.Time, once zael.Once, result zael.EditResult) (types.TransactWriteItem, error) {
	text, err := json.Marshal(result)
	if err != nil {
		return types.TransactWriteItem{}, err
	}
	it := s.onceItem(once.Key)
	it["hash"], it["until"], it["result"] = schema.Text(once.Hash), schema.Text(stamp.Text(once.Until)), schema.Text(string(text))
	if !s.trial.VirtualTime {
		it["ttl"] = schema.Number(once.Until.Unix())
	}
	return types.TransactWriteItem{Put: &types.Put{
		TableName: aws.String(s.table), Item: it,
		ConditionExpression:       aws.String("attribute_not_exists(#until) OR #until <= :now"),
		ExpressionAttributeNames:  map[string]string{"#until": "until"},
		ExpressionAttributeValues: item{":now": schema.Text(stamp.Text(now))},
	}}, nil
}

// applyChange does what follows a change: the buckets that an entity has in use learn of
// its settings. It may be repeated.
func (s *Store) applyChange(ctx context.Context, edit *zael.Edit) error {
	switch edits.KindOf(edit) {
	case edits.Bucket:
		key := zael.Key(edit.Scope())
		s.cache.forget(key)
		s.coalescer.Forget(key)
	case edits.Settings:
		if edit.Event.Entity == "" {
			return nil
		}
		if err := s.markBuckets(ctx, edit.Scope()); err != nil {
			return fmt.Errorf("the settings are stored; buckets in use follow as programs read them again, as telling them at once failed: %w", err)
		}
	}
	return nil
}

// maxAncestors is how many ancestors of a new parent are looked at: each is a part of the
// transaction.
const maxAncestors = 90

// parentChange is the change of an entity's parent. All ancestors of the new parent are
// in the transaction, so that no two changes make a cycle together.
func (s *Store) parentChange(ctx context.Context, id, parent string) (c change, err error) {
	if err := checkName("entity", id); err != nil {
		return c, err
	}
	if err := storable.Name("parent", parent); err != nil {
		return c, err
	}
	var own zael.Entity
	var checks []types.TransactWriteItem
	err = edits.CheckParent(id, parent, func(above string) (string, bool, error) {
		e, err := s.createdEntity(ctx, above)
		switch {
		case err != nil:
			return "", false, err
		case above == id:
			own = e
		case len(checks) == maxAncestors:
			return "", false, storearg.Invalid("Entity.ParentID", parent, fmt.Sprintf("has more than %d ancestors", maxAncestors))
		default:
			checks = append(checks, s.parentCheck(above, e))
		}
		return e.ParentID, e.ID != "", nil
	})
	if err != nil {
		return c, err
	}
	update := &types.Update{
		TableName: aws.String(s.table), Key: schema.ItemKey(s.keys.Entity(id), meta),
		ExpressionAttributeNames: map[string]string{"#parent": "parent", "#gp": "GSI1PK", "#gs": "GSI1SK"},
		UpdateExpression:         aws.String("REMOVE #parent, #gp, #gs"),
	}
	values := item{}
	update.ConditionExpression = aws.String(conditionOfParent(own.ParentID, update.ExpressionAttributeNames, values))
	if parent != "" {
		update.UpdateExpression = aws.String("SET #parent = :new, #gp = :gp, #gs = :gs")
		values[":new"], values[":gp"], values[":gs"] = schema.Text(parent), schema.Text(s.keys.children(parent)), schema.Text(id)
	}
	if len(values) > 0 {
		update.ExpressionAttributeValues = values
	}
	c.writes = append([]types.TransactWriteItem{{Update: update}}, checks...)
	return c, nil
}

// createdEntity reads an entity; it is zero if it was not created.
func (s *Store) createdEntity(ctx context.Context, id string) (zael.Entity, error) {
	found, err := s.Entities(ctx, []string{id})
	if err != nil {
		return zael.Entity{}, err
	}
	return found[0], nil
}

// parentCheck requires that an entity still has the parent that was read, or still was
// not created.
func (s *Store) parentCheck(id string, e zael.Entity) types.TransactWriteItem {
	check := &types.ConditionCheck{
		TableName: aws.String(s.table), Key: schema.ItemKey(s.keys.Entity(id), meta),
		ConditionExpression: aws.String("attribute_not_exists(#created)"), ExpressionAttributeNames: map[string]string{"#created": "created_at"},
	}
	if e.ID != "" {
		names, values := map[string]string{"#parent": "parent"}, item{}
		check.ConditionExpression, check.ExpressionAttributeNames = aws.String(conditionOfParent(e.ParentID, names, values)), names
		if len(values) > 0 {
			check.ExpressionAttributeValues = values
		}
	}
	return types.TransactWriteItem{ConditionCheck: check}
}

// conditionOfParent requires that an entity was created and has a parent, or none; names
// has #parent.
func conditionOfParent(parent string, names map[string]string, values item) string {
	names["#created"] = "created_at"
	if parent == "" {
		return "attribute_exists(#created) AND attribute_not_exists(#parent)"
	}
	values[":parent"] = schema.Text(parent)
	return "attribute_exists(#created) AND #parent = :parent"
}
