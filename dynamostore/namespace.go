package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/stamp"
)

// A namespace is an item in a partition of its own, which a policy can let its programs
// read and not write, with state, registered_at and changed_at. The registry, in the
// system's partition of the default namespace, has an item for each and only lists them.
const (
	namespacePartition = "NAMESPACE"
	registryKey        = "#NAMESPACE#"
	stateAttribute     = "state"
)

// A scanner is what a purge uses of *dynamodb.Client.
type scanner interface {
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
}

func namespaceItem(name string) item {
	return schema.ItemKey(schema.Of(name).Prefix+namespacePartition, meta)
}

func registryItem(name string) item { return schema.ItemKey(newKeys("").System(), registryKey+name) }

func namespaceOf(name string, it item) (zael.Namespace, error) {
	n := zael.Namespace{Name: name, State: zael.NamespaceState(schema.TextIn(it, stateAttribute))}
	var err error
	if n.RegisteredAt, err = stamp.Parse(schema.TextIn(it, "registered_at")); err == nil {
		n.ChangedAt, err = stamp.Parse(schema.TextIn(it, "changed_at"))
	}
	if err != nil {
		return n, fmt.Errorf("dynamostore: namespace %s: %w", name, err)
	}
	return n, nil
}

// Namespace implements zael.NamespaceStore.
func (s *Store) Namespace(ctx context.Context, name string) (zael.Namespace, error) {
	if err := zael.CheckNamespace(name); err != nil {
		return zael.Namespace{}, err
	}
	key := namespaceItem(name)
	found, err := s.getAll(ctx, "reading a namespace", []item{key})
	if err != nil {
		return zael.Namespace{}, err
	}
	it := found[keyOf(key)]
	if it == nil {
		return zael.Namespace{}, fmt.Errorf("%w: %s", zael.ErrNamespaceNotFound, name)
	}
	return namespaceOf(name, it)
}

// Namespaces implements zael.NamespaceStore.
func (s *Store) Namespaces(ctx context.Context) iter.Seq2[zael.Namespace, error] {
	const what = "reading namespaces"
	return func(yield func(zael.Namespace, error) bool) {
		for page, err := range s.pages(ctx, what, query{pk: newKeys("").System()}.prefixed(registryKey)) {
			if err != nil {
				yield(zael.Namespace{}, err)
				return
			}
			keys := make([]item, len(page))
			names := make([]string, len(page))
			for i, it := range page {
				names[i] = strings.TrimPrefix(schema.TextIn(it, "SK"), registryKey)
				keys[i] = namespaceItem(names[i])
			}
			found, err := s.getAll(ctx, what, keys)
			for i, name := range names {
				var n zael.Namespace
				if err == nil {
					it := found[keyOf(keys[i])]
					if it == nil {
						continue // purged meanwhile
					}
					n, err = namespaceOf(name, it)
				}
				if !yield(n, err) || err != nil {
					return
				}
			}
		}
	}
}

// EditNamespace implements zael.NamespaceStore.
func (s *Store) EditNamespace(ctx context.Context, name string, event zael.AuditEvent) error {
	move, err := edits.MoveOf(&event)
	if err != nil {
		return err
	}
	return s.moveNamespace(ctx, name, move, &event)
}

// moveNamespace makes a move of a namespace with its event, unless it has been made.
func (s *Store) moveNamespace(ctx context.Context, name string, move edits.Move, event *zael.AuditEvent) error {
	if _, err := stamp.Checked("AuditEvent.Time", event.Time); err != nil {
		return err
	}
	for range maxRetries {
		n, err := s.Namespace(ctx, name)
		registered := !errors.Is(err, zael.ErrNamespaceNotFound)
		if err != nil && registered {
			return err
		}
		if made, err := move.Check(name, &n, registered); made || err != nil {
			return err
		}
		if err := s.setNamespace(ctx, name, move, event); !errors.Is(err, errOvertaken) {
			return err
		}
	}
	return fmt.Errorf("dynamostore: changing a namespace: %w", zael.ErrContention)
}

// errOvertaken means that somebody else has changed a namespace since it was read.
var errOvertaken = errors.New("dynamostore: somebody else has changed the namespace")

// setNamespace makes a move of a namespace, unless its state has changed.
func (s *Store) setNamespace(ctx context.Context, name string, move edits.Move, event *zael.AuditEvent) error {
	audit, err := s.auditPutIn(newKeys(""), *event)
	if err != nil {
		return err
	}
	update := &types.Update{
		TableName: aws.String(s.table), Key: namespaceItem(name),
		ConditionExpression:       aws.String("attribute_not_exists(#state)"),
		UpdateExpression:          aws.String("SET #state = :to, #changed = :at, #registered = if_not_exists(#registered, :at)"),
		ExpressionAttributeNames:  map[string]string{"#state": stateAttribute, "#changed": "changed_at", "#registered": "registered_at"},
		ExpressionAttributeValues: item{":to": schema.Text(string(move.To)), ":at": schema.Text(stamp.Text(event.Time))},
	}
	if move.From != "" {
		update.ConditionExpression = aws.String("#state = :from")
		update.ExpressionAttributeValues[":from"] = schema.Text(string(move.From))
	}
	list := &types.Put{TableName: aws.String(s.table), Item: registryItem(name)}
	failed, err := s.transactAnywhere(ctx, "changing a namespace", types.TransactWriteItem{Update: update}, types.TransactWriteItem{Put: list}, audit)
	if err == nil && failed >= 0 {
		return errOvertaken
	}
	return err
}

// PurgeNamespace implements zael.NamespaceStore. It scans the whole table, as items of a
// namespace have no index. Programs that have not learned that it is deleted may write
// buckets meanwhile: these expire by themselves.
func (s *Store) PurgeNamespace(ctx context.Context, name string, event zael.AuditEvent) (records int, err error) {
	const what = "purging a namespace"
	if err := zael.CheckNamespace(name); err != nil {
		return 0, err
	}
	scan, ok := s.client.(scanner)
	if !ok {
		return 0, fmt.Errorf("dynamostore: %s: the client has no Scan: %w", what, errors.ErrUnsupported)
	}
	begun := edits.Begun(name, event)
	if err := s.moveNamespace(ctx, name, edits.Purge, &begun); err != nil {
		return 0, err
	}
	if records, err = s.deletePrefix(ctx, scan, what, schema.Of(name).Prefix, keyOf(namespaceItem(name))); err != nil {
		return records, err
	}
	audit, err := s.auditPutIn(newKeys(""), event)
	if err != nil {
		return records, err
	}
	failed, err := s.transactAnywhere(ctx, what, types.TransactWriteItem{Delete: &types.Delete{
		TableName: aws.String(s.table), Key: namespaceItem(name), ConditionExpression: aws.String("#state = :purging"),
		ExpressionAttributeNames:  map[string]string{"#state": stateAttribute},
		ExpressionAttributeValues: item{":purging": schema.Text(string(zael.NamespacePurging))},
	}}, types.TransactWriteItem{Delete: &types.Delete{TableName: aws.String(s.table), Key: registryItem(name)}}, audit)
	if err == nil && failed >= 0 {
		return records, edits.Purged(name)
	}
	return records, err
}

// deletePrefix deletes the items whose partition keys begin with a prefix, except one.
func (s *Store) deletePrefix(ctx context.Context, c scanner, what, prefix string, except [2]string) (deleted int, err error) {
	in := &dynamodb.ScanInput{
		TableName: aws.String(s.table), ConsistentRead: aws.Bool(true), ProjectionExpression: aws.String("PK, SK"),
		FilterExpression: aws.String("begins_with(PK, :prefix)"), ExpressionAttributeValues: item{":prefix": schema.Text(prefix)},
	}
	for {
		if ctx.Err() != nil {
			return deleted, s.translate(ctx, what, ctx.Err())
		}
		out, err := c.Scan(ctx, in)
		if err != nil {
			return deleted, s.translate(ctx, what, err)
		}
		var keys []item
		for _, it := range out.Items {
			if k := keyOf(it); k != except {
				keys = append(keys, schema.ItemKey(k[0], k[1]))
			}
		}
		if err := s.deleteAll(ctx, what, keys); err != nil {
			return deleted, err
		}
		deleted += len(keys)
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
			return deleted, nil
		}
	}
}

// ifActive is the part of a transaction which requires that the store's namespace is
// not deleted.
func (s *Store) ifActive() types.TransactWriteItem {
	return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: aws.String(s.table), Key: namespaceItem(s.config.Namespace),
		ConditionExpression:       aws.String("attribute_not_exists(#state) OR #state = :active"),
		ExpressionAttributeNames:  map[string]string{"#state": stateAttribute},
		ExpressionAttributeValues: item{":active": schema.Text(string(zael.NamespaceActive))},
	}}
}

// register registers the store's namespace at its first administrative write, once in a
// process. Programs that may not are let be: somebody else can register it.
func (s *Store) register(ctx context.Context) {
	if s.config.Namespace == "" || s.registered.Swap(true) {
		return
	}
	event := edits.FirstUse(s.config.Namespace, s.clock.Read().Wall)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := s.Namespace(ctx, s.config.Namespace); errors.Is(err, zael.ErrNamespaceNotFound) {
		_ = s.EditNamespace(ctx, s.config.Namespace, event)
	}
}

// transact writes all or none, unless the store's namespace is deleted. failed is the
// place of the write whose condition did not hold, -1 if there is none.
func (s *Store) transact(ctx context.Context, what string, writes ...types.TransactWriteItem) (failed int, err error) {
	if s.config.Namespace == "" {
		return s.transactAnywhere(ctx, what, writes...)
	}
	s.register(ctx)
	n := len(writes)
	failed, err = s.transactAnywhere(ctx, what, append(writes[:n:n], s.ifActive())...)
	if err == nil && failed == n {
		return -1, fmt.Errorf("dynamostore: %s: %w: %s", what, zael.ErrNamespaceDeleted, s.config.Namespace)
	}
	return failed, err
}

// checkActive returns an error if the store's namespace is deleted, for changes that begin
// before their transaction.
func (s *Store) checkActive(ctx context.Context, what string) error {
	if s.config.Namespace == "" {
		return nil
	}
	switch n, err := s.Namespace(ctx, s.config.Namespace); {
	case errors.Is(err, zael.ErrNamespaceNotFound):
		return nil
	case err != nil:
		return err
	case n.State != zael.NamespaceActive:
		return fmt.Errorf("dynamostore: %s: %w: %s", what, zael.ErrNamespaceDeleted, n.Name)
	}
	return nil
}
