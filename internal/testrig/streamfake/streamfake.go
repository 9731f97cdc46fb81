// Package streamfake is a table's stream in memory, for tests: shards that split
// and close, records that are trimmed, answers that are empty or fail.
package streamfake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
)

// ARN is that of the stream, which is of a table named fake.
const ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/fake/stream/2026-01-13T14:00:00.000"

const (
	shardsInPage  = 2
	recordsInPage = 7
)

// A Stream is a stream and the buckets whose changes it has. It may be used concurrently.
type Stream struct {
	Fail func(call string) error // may fail a call; set before the first

	mu       sync.Mutex
	shards   []*shard
	buckets  map[string]map[string]int64
	sequence int64
	used     map[string]int64
}

type shard struct {
	id, parent string
	records    []types.Record
	trimmed    int // how many of them are gone
	closed     bool
	asked      int
}

// New returns a stream with open shards.
func New(shards ...string) *Stream {
	s := &Stream{buckets: map[string]map[string]int64{}, used: map[string]int64{}, sequence: 95}
	for _, id := range shards {
		s.shards = append(s.shards, &shard{id: id})
	}
	return s
}

func (s *Stream) find(id string) *shard {
	for _, sh := range s.shards {
		if sh.id == id {
			return sh
		}
	}
	return nil
}

// Take adds the record of a take by an entity and returns its sequence number.
func (s *Stream) Take(shard, entity string, at time.Time, tokens int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[entity+" events"]++
	s.used[entity+" rpm"] += tokens
	b := s.buckets[entity]
	old := item(b)
	if b == nil {
		b = map[string]int64{}
		s.buckets[entity] = b
	}
	b["v"]++
	b["e"]++
	b["c_rpm"] += tokens
	return s.add(shard, "E#"+entity, "B#gpt-4", at, old, item(b))
}

// Add adds the record of an item that is created, and returns its sequence number.
func (s *Stream) Add(shard, pk, sk string, at time.Time, image map[string]types.AttributeValue) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(shard, pk, sk, at, nil, image)
}

func (s *Stream) add(id, pk, sk string, at time.Time, old, is map[string]types.AttributeValue) string {
	s.sequence++
	sequence := strconv.FormatInt(s.sequence, 10)
	sh := s.find(id)
	sh.records = append(sh.records, types.Record{Dynamodb: &types.StreamRecord{
		ApproximateCreationDateTime: aws.Time(at), SequenceNumber: aws.String(sequence),
		Keys:     map[string]types.AttributeValue{"PK": text(pk), "SK": text(sk)},
		OldImage: old, NewImage: is,
	}})
	return sequence
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func item(b map[string]int64) map[string]types.AttributeValue {
	if b == nil {
		return nil
	}
	it := map[string]types.AttributeValue{"b": text("birth")}
	for name, n := range b {
		it[name] = &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
	}
	return it
}

// Used returns what was taken: "entity rpm" and "entity events".
func (s *Stream) Used() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.used)
}

// Split closes a shard and opens children of it, if any are named.
func (s *Stream) Split(parent string, children ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.find(parent).closed = true
	for _, id := range children {
		s.shards = append(s.shards, &shard{id: id, parent: parent})
	}
}

// Trim removes the oldest n records of a shard.
func (s *Stream) Trim(id string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.find(id).trimmed = n
}

// Drop removes a shard.
func (s *Stream) Drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards = slices.DeleteFunc(s.shards, func(sh *shard) bool { return sh.id == id })
}

// Change changes the record with a sequence number.
func (s *Stream) Change(sequence string, f func(*types.StreamRecord)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shards {
		for i := range sh.records {
			if *sh.records[i].Dynamodb.SequenceNumber == sequence {
				f(sh.records[i].Dynamodb)
			}
		}
	}
}

func (s *Stream) begin(ctx context.Context, call string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Fail != nil {
		return s.Fail(call)
	}
	return nil
}

// DescribeStream is like the method of *dynamodbstreams.Client.
func (s *Stream) DescribeStream(ctx context.Context, in *dynamodbstreams.DescribeStreamInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error) {
	if err := s.begin(ctx, "DescribeStream"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &types.StreamDescription{}
	from := 0
	if in.ExclusiveStartShardId != nil {
		from = 1 + slices.IndexFunc(s.shards, func(sh *shard) bool { return sh.id == *in.ExclusiveStartShardId })
	}
	for i, sh := range s.shards[from:] {
		if i == shardsInPage {
			d.LastEvaluatedShardId = d.Shards[i-1].ShardId
			break
		}
		one := types.Shard{ShardId: aws.String(sh.id)}
		if sh.parent != "" {
			one.ParentShardId = aws.String(sh.parent)
		}
		d.Shards = append(d.Shards, one)
	}
	return &dynamodbstreams.DescribeStreamOutput{StreamDescription: d}, nil
}

// GetShardIterator is like the method of *dynamodbstreams.Client.
func (s *Stream) GetShardIterator(ctx context.Context, in *dynamodbstreams.GetShardIteratorInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error) {
	if err := s.begin(ctx, "GetShardIterator"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.find(*in.ShardId)
	if sh == nil || *in.StreamArn != ARN {
		return nil, &types.ResourceNotFoundException{Message: aws.String("no shard " + *in.ShardId)}
	}
	at := sh.trimmed
	if in.ShardIteratorType != types.ShardIteratorTypeTrimHorizon {
		at = slices.IndexFunc(sh.records, func(r types.Record) bool { return *r.Dynamodb.SequenceNumber == *in.SequenceNumber })
		if at < 0 {
			return nil, fmt.Errorf("no record %s in the shard %s", *in.SequenceNumber, sh.id)
		}
		if in.ShardIteratorType == types.ShardIteratorTypeAfterSequenceNumber {
			at++
		}
		if at < sh.trimmed {
			return nil, &types.TrimmedDataAccessException{Message: aws.String("trimmed")}
		}
	}
	return &dynamodbstreams.GetShardIteratorOutput{ShardIterator: aws.String(fmt.Sprintf("%s|%d", sh.id, at))}, nil
}

// GetRecords is like the method of *dynamodbstreams.Client. Every third page is empty.
func (s *Stream) GetRecords(ctx context.Context, in *dynamodbstreams.GetRecordsInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error) {
	if err := s.begin(ctx, "GetRecords"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, place, _ := strings.Cut(*in.ShardIterator, "|")
	at, _ := strconv.Atoi(place)
	sh := s.find(id)
	switch {
	case sh == nil:
		return nil, &types.ResourceNotFoundException{Message: aws.String("no shard " + id)}
	case at < sh.trimmed:
		return nil, &types.TrimmedDataAccessException{Message: aws.String("trimmed")}
	}
	end := min(len(sh.records), at+recordsInPage)
	if sh.asked++; sh.asked%3 == 0 {
		end = at
	}
	out := &dynamodbstreams.GetRecordsOutput{Records: slices.Clone(sh.records[at:end])}
	if end < len(sh.records) || !sh.closed {
		out.NextShardIterator = aws.String(fmt.Sprintf("%s|%d", id, end))
	}
	return out, nil
}
