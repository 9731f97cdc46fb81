// Package dynamofake is a table of DynamoDB in memory, for the tests of what is
// written for it: as much of the engine as zael uses. It has no clock, no
// network and no limits; tests of what is true of the engine run on DynamoDB
// Local.
package dynamofake

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// page is how many items a query answers at a time: few, so that pages are
// tried. batch is how much of a batch is done at a time.
const (
	page  = 40
	batch = 15
)

// A Table is one table with an index GSI1. It may be used concurrently.
type Table struct {
	mu    sync.Mutex
	items map[[2]string]Item
}

// New makes an empty table.
func New() *Table { return &Table{items: map[[2]string]Item{}} }

func text(it Item, name string) string {
	if v, ok := it[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

func key(it Item) [2]string { return [2]string{text(it, "PK"), text(it, "SK")} }

// locked runs f and turns its panics about an expression into the engine's error.
func (t *Table) locked(ctx context.Context, f func()) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case problem:
			err = &smithy.GenericAPIError{Code: "ValidationException", Message: p.text, Fault: smithy.FaultClient}
		default:
			panic(p)
		}
	}()
	f()
	return nil
}

// Delete removes an item, as its expiry does, and tells whether there was one.
func (t *Table) Delete(pk, sk string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.items[[2]string{pk, sk}]
	delete(t.items, [2]string{pk, sk})
	return ok
}

// Put stores an item as it is.
func (t *Table) Put(it Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items[key(it)] = maps.Clone(it)
}

// Get is a copy of an item; nil if there is none.
func (t *Table) Get(pk, sk string) Item {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.items[[2]string{pk, sk}])
}

// change tries one conditional update, deletion or put. It returns the item as it
// was and as it will be, and whether the condition holds.
func (t *Table) change(k Item, condition, update *string, names map[string]string, values Item) (old, after Item, ok bool) {
	used := map[string]bool{}
	old = t.items[key(k)]
	ok = true
	if condition != nil {
		e := parse(*condition, names, values, used)
		ok = e.either(old)
		if e.peek() != "" {
			fail("syntax error at %q", e.peek())
		}
	}
	if update != nil {
		base := old
		if base == nil {
			base = k
		}
		e := parse(*update, names, values, used)
		if ok {
			after = e.update(base)
		} else {
			for _, token := range e.tokens {
				if token[0] == '#' || token[0] == ':' {
					used[token] = true
				}
			}
		}
	}
	for placeholder := range names {
		if !used[placeholder] {
			fail("%s is not used", placeholder)
		}
	}
	for placeholder := range values {
		if !used[placeholder] {
			fail("%s is not used", placeholder)
		}
	}
	return old, after, ok
}

// UpdateItem is the engine's.
func (t *Table) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	var out dynamodb.UpdateItemOutput
	var failed error
	err := t.locked(ctx, func() {
		old, after, ok := t.change(in.Key, in.ConditionExpression, in.UpdateExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues)
		if !ok {
			failed = &types.ConditionalCheckFailedException{Message: aws.String("The conditional request failed"), Item: maps.Clone(old)}
			return
		}
		if in.UpdateExpression == nil { // makes the item, or leaves it
			if after = maps.Clone(old); after == nil {
				after = maps.Clone(in.Key)
			}
		}
		t.items[key(in.Key)] = after
		out.Attributes = maps.Clone(after)
	})
	if err = cmp.Or(err, failed); err != nil {
		return nil, err
	}
	return &out, nil
}

// GetItem is the engine's.
func (t *Table) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	var out dynamodb.GetItemOutput
	err := t.locked(ctx, func() { out.Item = maps.Clone(t.items[key(in.Key)]) })
	return &out, err
}

// BatchGetItem is the engine's; it leaves a part of long batches unprocessed.
func (t *Table) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	out := dynamodb.BatchGetItemOutput{Responses: map[string][]Item{}, UnprocessedKeys: map[string]types.KeysAndAttributes{}}
	err := t.locked(ctx, func() {
		for table, request := range in.RequestItems {
			seen := map[[2]string]bool{}
			if n := len(request.Keys); n == 0 || n > 100 {
				fail("%d keys are not 1 to 100", n)
			}
			for i, k := range request.Keys {
				if seen[key(k)] {
					fail("a key is repeated")
				}
				seen[key(k)] = true
				if i >= batch {
					left := request
					left.Keys = request.Keys[i:]
					out.UnprocessedKeys[table] = left
					break
				}
				if it := t.items[key(k)]; it != nil {
					out.Responses[table] = append(out.Responses[table], maps.Clone(it))
				}
			}
			slices.Reverse(out.Responses[table]) // in no order
		}
	})
	return &out, err
}

// BatchWriteItem is the engine's, for deletions; it leaves a part unprocessed.
func (t *Table) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error) {
	out := dynamodb.BatchWriteItemOutput{UnprocessedItems: map[string][]types.WriteRequest{}}
	err := t.locked(ctx, func() {
		for table, requests := range in.RequestItems {
			if n := len(requests); n == 0 || n > 25 {
				fail("%d requests are not 1 to 25", n)
			}
			for i, r := range requests {
				if i >= batch {
					out.UnprocessedItems[table] = requests[i:]
					break
				}
				delete(t.items, key(r.DeleteRequest.Key))
			}
		}
	})
	return &out, err
}

// TransactWriteItems is the engine's.
func (t *Table) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	var cancelled error
	err := t.locked(ctx, func() {
		reasons := make([]types.CancellationReason, len(in.TransactItems))
		var apply []func()
		for i, w := range in.TransactItems {
			var after Item
			ok := true
			var k [2]string
			switch {
			case w.Update != nil:
				u := w.Update
				k = key(u.Key)
				_, after, ok = t.change(u.Key, u.ConditionExpression, u.UpdateExpression, u.ExpressionAttributeNames, u.ExpressionAttributeValues)
			case w.Put != nil:
				k, after = key(w.Put.Item), maps.Clone(w.Put.Item)
				_, _, ok = t.change(w.Put.Item, w.Put.ConditionExpression, nil, w.Put.ExpressionAttributeNames, w.Put.ExpressionAttributeValues)
			case w.ConditionCheck != nil:
				c := w.ConditionCheck
				k = key(c.Key)
				_, _, ok = t.change(c.Key, c.ConditionExpression, nil, c.ExpressionAttributeNames, c.ExpressionAttributeValues)
				after = t.items[k]
			case w.Delete != nil:
				d := w.Delete
				k = key(d.Key)
				_, _, ok = t.change(d.Key, d.ConditionExpression, nil, d.ExpressionAttributeNames, d.ExpressionAttributeValues)
			}
			reasons[i].Code = aws.String("None")
			if !ok {
				reasons[i].Code = aws.String("ConditionalCheckFailed")
				cancelled = &types.TransactionCanceledException{Message: aws.String("Transaction cancelled"), CancellationReasons: reasons}
			}
			apply = append(apply, func() {
				if after == nil {
					delete(t.items, k)
				} else {
					t.items[k] = after
				}
			})
		}
		if cancelled == nil {
			for _, f := range apply {
				f()
			}
		}
	})
	if err = cmp.Or(err, cancelled); err != nil {
		return nil, err
	}
	return &dynamodb.TransactWriteItemsOutput{}, nil
}

// Scan is the engine's, of keys that begin with :prefix.
func (t *Table) Scan(ctx context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	out := &dynamodb.ScanOutput{}
	err := t.locked(ctx, func() {
		order := func(a, b Item) int {
			return cmp.Or(strings.Compare(text(a, "PK"), text(b, "PK")), strings.Compare(text(a, "SK"), text(b, "SK")))
		}
		all := slices.SortedFunc(maps.Values(t.items), order)
		if len(in.ExclusiveStartKey) > 0 {
			all = slices.DeleteFunc(all, func(it Item) bool { return order(it, in.ExclusiveStartKey) <= 0 })
		}
		if len(all) > page {
			all = all[:page]
			out.LastEvaluatedKey = Item{"PK": all[page-1]["PK"], "SK": all[page-1]["SK"]}
		}
		for _, it := range all {
			if strings.HasPrefix(text(it, "PK"), text(in.ExpressionAttributeValues, ":prefix")) {
				out.Items = append(out.Items, Item{"PK": it["PK"], "SK": it["SK"]})
			}
		}
	})
	return out, err
}

// Query is the engine's.
func (t *Table) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out := &dynamodb.QueryOutput{}
	err := t.locked(ctx, func() {
		pk, sk := "PK", "SK"
		if in.IndexName != nil {
			pk, sk = aws.ToString(in.IndexName)+"PK", aws.ToString(in.IndexName)+"SK"
		}
		order := func(a, b Item) int {
			c := cmp.Or(strings.Compare(text(a, sk), text(b, sk)), strings.Compare(text(a, "PK"), text(b, "PK")), strings.Compare(text(a, "SK"), text(b, "SK")))
			if in.ScanIndexForward != nil && !*in.ScanIndexForward {
				return -c
			}
			return c
		}
		var found []Item
		partition := text(in.ExpressionAttributeValues, ":pk")
		condition := parse(*in.KeyConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues, map[string]bool{})
		tokens := condition.tokens
		for _, it := range t.items {
			if it[pk] == nil || it[sk] == nil || text(it, pk) != partition {
				continue
			}
			if condition.tokens = tokens; !condition.either(it) {
				continue
			}
			if len(in.ExclusiveStartKey) > 0 && order(it, in.ExclusiveStartKey) <= 0 {
				continue
			}
			found = append(found, it)
		}
		slices.SortFunc(found, order)
		most := page
		if in.Limit != nil {
			most = min(most, int(*in.Limit))
		}
		if len(found) > most {
			found = found[:most]
			last := found[most-1]
			out.LastEvaluatedKey = Item{"PK": last["PK"], "SK": last["SK"], pk: last[pk], sk: last[sk]}
		}
		for i, it := range found {
			if in.IndexName != nil {
				found[i] = Item{"PK": it["PK"], "SK": it["SK"], pk: it[pk], sk: it[sk]}
			} else {
				found[i] = maps.Clone(it)
			}
		}
		out.Items = found
	})
	return out, err
}
