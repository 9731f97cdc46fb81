package dynamostore

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/schema"
)

// The settings of a scope are one attribute beside its limits, s_ instead of l_: a map of
// switch, mode and rev. The system's item has the greatest revision of all as well.
const latestSettings = "settings_rev"

// settingsIn is where the settings of a scope are: an item, and its attribute.
func (k keys) settings(scope zael.Scope) (pk, attribute string) {
	pk, attribute = k.scope(scope)
	return pk, "s_" + strings.TrimPrefix(attribute, limitsAttribute)
}

// settingsOf reads what settingsChange wrote.
func settingsOf(v types.AttributeValue) (s zael.Settings, err error) {
	m, ok := v.(*types.AttributeValueMemberM)
	if !ok {
		return s, nil
	}
	var numbers [3]int64
	for i, name := range []string{"switch", "mode", "rev"} {
		if numbers[i], err = schema.NumberIn(m.Value, name); err != nil {
			return s, fmt.Errorf("dynamostore: stored settings: %w", err)
		}
	}
	s = zael.Settings{Switch: zael.Switch(numbers[0]), FailureMode: zael.FailureMode(numbers[1]), Rev: numbers[2]} //nolint:gosec // checked next
	if numbers[0] < 0 || numbers[0] > int64(zael.Bypass) || numbers[1] < 0 || numbers[1] > int64(zael.FailOpen) {
		return s, fmt.Errorf("dynamostore: stored settings: switch %d and failure mode %d: this version does not know them", numbers[0], numbers[1])
	}
	return s, nil
}

// settingsChange is the change of a scope's switch or failure mode. All changes of settings
// in a namespace have revisions in the order in which they are made.
func (s *Store) settingsChange(ctx context.Context, edit *zael.Edit) (c change, err error) {
	pk, attribute := s.keys.settings(edit.Scope())
	own, system := schema.ItemKey(pk, meta), schema.ItemKey(s.keys.System(), meta)
	found, err := s.getAll(ctx, "reading settings", []item{own, system})
	if err != nil {
		return c, err
	}
	kept := found[keyOf(own)][attribute]
	set, err := settingsOf(kept)
	if err != nil {
		return c, err
	}
	latest, err := latestIn(found[keyOf(system)])
	if err != nil {
		return c, err
	}
	if c.done = !edits.ChangeSettings(edit, &set, latest); c.done {
		return c, nil
	}
	write := &types.Update{
		TableName: aws.String(s.table), Key: own,
		ConditionExpression:      aws.String("attribute_not_exists(#s)"),
		UpdateExpression:         aws.String("SET #s = :new"),
		ExpressionAttributeNames: map[string]string{"#s": attribute},
		ExpressionAttributeValues: item{":new": &types.AttributeValueMemberM{Value: item{
			"switch": schema.Number(int64(set.Switch)), "mode": schema.Number(int64(set.FailureMode)), "rev": schema.Number(set.Rev),
		}}},
	}
	if kept != nil {
		write.ConditionExpression = aws.String("#s = :old")
		write.ExpressionAttributeValues[":old"] = kept
	}
	total := &types.Update{
		TableName: aws.String(s.table), Key: system,
		ConditionExpression:       aws.String("attribute_not_exists(#latest) OR #latest < :rev"),
		UpdateExpression:          aws.String("SET #latest = :rev"),
		ExpressionAttributeNames:  map[string]string{"#latest": latestSettings},
		ExpressionAttributeValues: item{":rev": schema.Number(set.Rev)},
	}
	if keyOf(own) == keyOf(system) { // one item, which a transaction names once
		write.ConditionExpression = aws.String(*write.ConditionExpression + " AND (" + *total.ConditionExpression + ")")
		write.UpdateExpression = aws.String("SET #s = :new, #latest = :rev")
		write.ExpressionAttributeNames["#latest"], write.ExpressionAttributeValues[":rev"] = latestSettings, schema.Number(set.Rev)
		c.writes = []types.TransactWriteItem{{Update: write}}
		return c, nil
	}
	c.writes = []types.TransactWriteItem{{Update: write}, {Update: total}}
	return c, nil
}

// latestIn is the greatest revision of settings, in the system's item.
func latestIn(system item) (int64, error) {
	if system[latestSettings] == nil {
		return 0, nil
	}
	return schema.NumberIn(system, latestSettings)
}

// Settings implements zael.AdminStore.
func (s *Store) Settings(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	keys := make([]item, len(scopes))
	for i, scope := range scopes {
		if err := storable.Key(zael.Key(scope)); err != nil {
			return nil, err
		}
		pk, _ := s.keys.settings(scope)
		keys[i] = schema.ItemKey(pk, meta)
	}
	found, err := s.readAll(ctx, "reading settings", keys)
	if err != nil {
		return nil, err
	}
	all := make([]zael.Settings, len(scopes))
	for i, scope := range scopes {
		_, attribute := s.keys.settings(scope)
		if all[i], err = settingsOf(found[keyOf(keys[i])][attribute]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readAll is getAll for what an acquire waits for: a call that is not answered in its time is
// made again.
func (s *Store) readAll(ctx context.Context, what string, keys []item) (found map[[2]string]item, err error) {
	err = s.retryRead(ctx, what, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, s.callTime(ctx))
		defer cancel()
		found, err = s.getAll(ctx, what, keys)
		return err
	})
	return found, err
}

// State implements zael.AdminStore.
func (s *Store) State(ctx context.Context) (state zael.StoreState, err error) {
	key := schema.ItemKey(s.keys.System(), meta)
	keys := []item{key}
	if s.config.Namespace != "" {
		keys = append(keys, namespaceItem(s.config.Namespace))
	}
	found, err := s.readAll(ctx, "reading the state", keys)
	if err != nil {
		return state, err
	}
	if len(keys) > 1 {
		namespace := zael.NamespaceState(schema.TextIn(found[keyOf(keys[1])], stateAttribute))
		state.Deleted = namespace != "" && namespace != zael.NamespaceActive
	}
	state.SettingsRev, err = latestIn(found[keyOf(key)])
	return state, err
}

// markBuckets tells the live buckets of a scope's entity the revision of its settings, so
// that no write under older ones is applied.
func (s *Store) markBuckets(ctx context.Context, scope zael.Scope) error {
	all, err := s.Settings(ctx, []zael.Scope{scope})
	if err != nil {
		return err
	}
	if scope.Resource != "" {
		return s.markBucket(ctx, zael.Key(scope), all[0].Rev)
	}
	for b, err := range s.EntityBuckets(ctx, scope.Entity) {
		if err != nil {
			return err
		}
		if err := s.markBucket(ctx, b.Key, all[0].Rev); err != nil {
			return err
		}
	}
	return nil
}

// markBucket writes the revision of settings into a bucket, if it is there and has an
// older one.
func (s *Store) markBucket(ctx context.Context, key zael.Key, rev int64) error {
	u := protocol.TellSettings(key, rev)
	_, _, err := s.updateItem(ctx, &u)
	return s.translate(ctx, "telling a bucket of settings", err)
}
