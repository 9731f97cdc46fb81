package dynamostore

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/storearg"
)

// The limits of a scope are one attribute, l_<resource> of the entity's item or
// l_ of the resource's or the system's: a map of rev, the revision, and limits,
// a list of texts as zael.ParseLimit reads them. A list of none is a tombstone.

// SetLimits implements zael.LimitStore.
func (s *Store) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	list := &types.AttributeValueMemberL{Value: make([]types.AttributeValue, len(limits))}
	for i, l := range limits {
		text := l.String()
		if back, err := zael.ParseLimit(text); err != nil || back != l {
			return 0, storearg.Invalid("limits", text, "is not a valid limit")
		}
		list.Value[i] = schema.Text(text)
	}
	return s.setLimits(ctx, scope, list, event)
}

// DeleteLimits implements zael.LimitStore.
func (s *Store) DeleteLimits(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
	return s.setLimits(ctx, scope, &types.AttributeValueMemberL{Value: []types.AttributeValue{}}, event)
}

// setLimits replaces a scope's limits unless another writer has since they were read; then it
// reads them again.
func (s *Store) setLimits(ctx context.Context, scope zael.Scope, list *types.AttributeValueMemberL, event zael.AuditEvent) (int64, error) {
	if err := storable.Key(zael.Key(scope)); err != nil {
		return 0, err
	}
	audit, err := s.auditPut(event)
	if err != nil {
		return 0, err
	}
	const what = "setting limits"
	pk, attribute := s.keys.scope(scope)
	key := schema.ItemKey(pk, meta)
	for n := 0; ; n++ {
		found, err := s.getAll(ctx, what, []item{key})
		if err != nil {
			return 0, err
		}
		kept := found[keyOf(key)][attribute]
		set, err := limitSetOf(kept)
		if err != nil {
			return 0, err
		}
		if len(list.Value) == 0 && len(set.Limits) == 0 {
			return set.Rev, nil
		}
		rev := max(event.Time.UnixMicro(), set.Rev+1)
		update := &types.Update{
			TableName: aws.String(s.table), Key: key,
			ConditionExpression:       aws.String("attribute_not_exists(#l)"),
			UpdateExpression:          aws.String("SET #l = :new"),
			ExpressionAttributeNames:  map[string]string{"#l": attribute},
			ExpressionAttributeValues: item{":new": &types.AttributeValueMemberM{Value: item{"rev": schema.Number(rev), "limits": list}}},
		}
		if kept != nil {
			update.ConditionExpression = aws.String("#l = :old")
			update.ExpressionAttributeValues[":old"] = kept
		}
		writes := []types.TransactWriteItem{{Update: update}, audit}
		if kept == nil {
			writes = append(writes, s.ownerPuts(scope)...)
		}
		failed, err := s.transact(ctx, what, writes...)
		if err != nil || failed < 0 {
			return rev, err
		}
		if n >= 10*maxRetries {
			return 0, fmt.Errorf("dynamostore: %s: %w", what, zael.ErrContention)
		}
		if err := pause.Backoff(ctx, n, raceBase, retryMost); err != nil {
			return 0, s.translate(ctx, what, err)
		}
	}
}

// limitSetOf reads what setLimits wrote.
func limitSetOf(v types.AttributeValue) (zael.LimitSet, error) {
	var set zael.LimitSet
	m, ok := v.(*types.AttributeValueMemberM)
	if !ok {
		return set, nil
	}
	var err error
	if set.Rev, err = schema.NumberIn(m.Value, "rev"); err != nil {
		return set, fmt.Errorf("dynamostore: stored limits: %w", err)
	}
	list, _ := m.Value["limits"].(*types.AttributeValueMemberL)
	if list == nil {
		return set, fmt.Errorf("dynamostore: stored limits: there is no list of them")
	}
	for _, v := range list.Value {
		text, _ := v.(*types.AttributeValueMemberS)
		if text == nil {
			return set, fmt.Errorf("dynamostore: stored limits: one is no text")
		}
		l, err := zael.ParseLimit(text.Value)
		if err != nil {
			return set, fmt.Errorf("dynamostore: stored limits: %w", err)
		}
		set.Limits = append(set.Limits, l)
	}
	return set, nil
}

// Limits implements zael.LimitStore. The scopes that bind a bucket are three
// items, read in one call; each is whole.
func (s *Store) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	keys := make([]item, len(scopes))
	for i, scope := range scopes {
		if err := storable.Key(zael.Key(scope)); err != nil {
			return nil, err
		}
		pk, _ := s.keys.scope(scope)
		keys[i] = schema.ItemKey(pk, meta)
	}
	found, err := s.getAll(ctx, "reading limits", keys)
	if err != nil {
		return nil, err
	}
	sets := make([]zael.LimitSet, len(scopes))
	for i, scope := range scopes {
		_, attribute := s.keys.scope(scope)
		if sets[i], err = limitSetOf(found[keyOf(keys[i])][attribute]); err != nil {
			return nil, err
		}
	}
	return sets, nil
}
