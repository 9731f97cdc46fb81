package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
)

// What the engine takes in one call.
const (
	mostGets   = 100
	mostWrites = 25
)

func keyOf(it item) [2]string { return [2]string{schema.TextIn(it, "PK"), schema.TextIn(it, "SK")} }

// getAll reads items by their keys, each seeing every write before. Items that do not exist
// are not in the map.
func (s *Store) getAll(ctx context.Context, what string, keys []item) (map[[2]string]item, error) {
	if s.closed.Load() {
		return nil, errClosed
	}
	if ctx.Err() != nil {
		return nil, s.translate(ctx, what, ctx.Err())
	}
	found := make(map[[2]string]item, len(keys))
	asked := make(map[[2]string]bool, len(keys))
	keys = slices.DeleteFunc(slices.Clone(keys), func(k item) bool { // the engine refuses a list with a key twice
		id := keyOf(k)
		again := asked[id]
		asked[id] = true
		return again
	})
	for chunk := range slices.Chunk(keys, mostGets) {
		for n := 0; len(chunk) > 0; n++ {
			in := &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
				s.table: {Keys: chunk, ConsistentRead: aws.Bool(true)},
			}}
			out, err := s.client.BatchGetItem(ctx, in)
			if err != nil {
				return nil, s.translate(ctx, what, err)
			}
			for _, it := range out.Responses[s.table] {
				found[keyOf(it)] = it
			}
			left := out.UnprocessedKeys[s.table].Keys
			if len(left) < len(chunk) {
				n = 0
			}
			if chunk = left; len(chunk) > 0 {
				if err := s.waitUnprocessed(ctx, what, n); err != nil {
					return nil, err
				}
			}
		}
	}
	return found, nil
}

// waitUnprocessed waits before what the engine left undone is asked for again.
func (s *Store) waitUnprocessed(ctx context.Context, what string, n int) error {
	if n > maxRetries {
		return fmt.Errorf("dynamostore: %s: the table is overloaded: %w", what, zael.ErrUnavailable)
	}
	if err := pause.Backoff(ctx, n, retryBase, retryMost); err != nil {
		return s.translate(ctx, what, err)
	}
	return nil
}

// deleteAll deletes items by their keys.
func (s *Store) deleteAll(ctx context.Context, what string, keys []item) error {
	for chunk := range slices.Chunk(keys, mostWrites) {
		requests := make([]types.WriteRequest, len(chunk))
		for i, k := range chunk {
			requests[i] = types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: k}}
		}
		for n := 0; len(requests) > 0; n++ {
			out, err := s.client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{s.table: requests}})
			if err != nil {
				return s.translate(ctx, what, err)
			}
			left := out.UnprocessedItems[s.table]
			if len(left) < len(requests) {
				n = 0
			}
			if requests = left; len(requests) > 0 {
				if err := s.waitUnprocessed(ctx, what, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// A query asks for the items of a partition, in order of their sort keys.
type query struct {
	index    bool   // of GSI1; else of the table, seeing every write before
	pk       string // the partition
	from, to string // least and greatest sort key; empty: no bound
	newest   bool   // the greatest sort key first
	keysOnly bool
	limit    int32 // items a page; 0: the engine's
}

func (q query) input(table string) *dynamodb.QueryInput {
	pk, sk := "PK", "SK"
	in := &dynamodb.QueryInput{
		TableName: aws.String(table), ScanIndexForward: aws.Bool(!q.newest),
		ExpressionAttributeValues: item{":pk": schema.Text(q.pk)},
	}
	if q.index {
		pk, sk = "GSI1PK", "GSI1SK"
		in.IndexName = aws.String(indexName)
	} else {
		in.ConsistentRead = aws.Bool(true)
	}
	in.ExpressionAttributeNames = map[string]string{"#pk": pk}
	condition := "#pk = :pk"
	switch {
	case q.from != "" && q.to != "":
		condition += " AND #sk BETWEEN :from AND :to"
	case q.from != "":
		condition += " AND #sk >= :from"
	case q.to != "":
		condition += " AND #sk <= :to"
	}
	if q.from != "" || q.to != "" {
		in.ExpressionAttributeNames["#sk"] = sk
	}
	if q.from != "" {
		in.ExpressionAttributeValues[":from"] = schema.Text(q.from)
	}
	if q.to != "" {
		in.ExpressionAttributeValues[":to"] = schema.Text(q.to)
	}
	if q.keysOnly && !q.index {
		in.ProjectionExpression = aws.String("PK, SK")
	}
	if q.limit > 0 {
		in.Limit = aws.Int32(q.limit)
	}
	in.KeyConditionExpression = aws.String(condition)
	return in
}

// prefixed returns q for the sort keys that begin with p, which does not end in the greatest
// of all characters.
func (q query) prefixed(p string) query {
	q.from, q.to = p, p+"\U0010ffff"
	return q
}

// pages iterates what q finds, a page at a time.
func (s *Store) pages(ctx context.Context, what string, q query) iter.Seq2[[]item, error] {
	return func(yield func([]item, error) bool) {
		if s.closed.Load() {
			yield(nil, errClosed)
			return
		}
		in := q.input(s.table)
		for {
			if ctx.Err() != nil {
				yield(nil, s.translate(ctx, what, ctx.Err()))
				return
			}
			out, err := s.client.Query(ctx, in)
			if err != nil {
				yield(nil, s.translate(ctx, what, err))
				return
			}
			if !yield(out.Items, nil) || len(out.LastEvaluatedKey) == 0 {
				return
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

// readByIndex reads the items that a page of the index names, in its order.
func (s *Store) readByIndex(ctx context.Context, what string, page []item) ([]item, error) {
	keys := make([]item, len(page))
	for i, it := range page {
		keys[i] = schema.ItemKey(schema.TextIn(it, "PK"), schema.TextIn(it, "SK"))
	}
	found, err := s.getAll(ctx, what, keys)
	if err != nil {
		return nil, err
	}
	items := make([]item, 0, len(page))
	for _, k := range keys {
		if it := found[keyOf(k)]; it != nil { // the index may be behind
			items = append(items, it)
		}
	}
	return items, nil
}

// transactAnywhere writes all or none, whatever the store's namespace is. failed is the place of the write whose condition
// did not hold, -1 if there is none.
func (s *Store) transactAnywhere(ctx context.Context, what string, writes ...types.TransactWriteItem) (failed int, err error) {
	if s.closed.Load() {
		return -1, errClosed
	}
	if ctx.Err() != nil {
		return -1, s.translate(ctx, what, ctx.Err())
	}
	token := protocol.IDText(s.random()) + protocol.IDText(s.random())
	for n := 0; ; n++ {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: writes, ClientRequestToken: aws.String(token), // by which the engine knows a repetition
		})
		if err == nil {
			return -1, nil
		}
		cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
		if !ok {
			return -1, s.translate(ctx, what, err)
		}
		again := false
		for i, reason := range cancelled.CancellationReasons {
			switch aws.ToString(reason.Code) {
			case "ConditionalCheckFailed":
				return i, nil
			case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
				again = true
			}
		}
		if !again {
			return -1, s.translate(ctx, what, err)
		}
		if n > 4*maxRetries {
			return -1, fmt.Errorf("dynamostore: %s: %w: %w", what, err, zael.ErrContention)
		}
		if err := pause.Backoff(ctx, n, retryBase, retryMost); err != nil {
			return -1, s.translate(ctx, what, err)
		}
	}
}
