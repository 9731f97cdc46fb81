// Package stream reads a table's stream: its shards, and the records of one.
package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	tabletypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/zeroae/zael/internal/usage"
)

// describer is what Open uses of *dynamodb.Client.
type describer interface {
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
}

// client is what a Stream uses of *dynamodbstreams.Client.
type client interface {
	DescribeStream(context.Context, *dynamodbstreams.DescribeStreamInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error)
	GetShardIterator(context.Context, *dynamodbstreams.GetShardIteratorInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error)
	GetRecords(context.Context, *dynamodbstreams.GetRecordsInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error)
}

// Kept is how long a stream has a record.
const Kept = 24 * time.Hour

// ErrTrimmed is matched by the errors of records that the stream does not have
// any more: it keeps them for 24 hours.
var ErrTrimmed = errors.New("the stream has the records no more: it keeps them for 24 hours")

// ErrGone is matched, besides ErrTrimmed, where the whole shard is gone.
var ErrGone = errors.New("the shard is gone")

// A Stream is that of one table. Safe for concurrent use.
type Stream struct {
	client client
	ARN    string
	Label  string // by which streams of one table differ
}

// Open finds the stream of a table. It has to have new and old images.
func Open(ctx context.Context, tables describer, c client, table string) (*Stream, error) {
	out, err := tables.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: aws.String(table)})
	if err != nil {
		return nil, fmt.Errorf("looking for the stream of the table %s: %w", table, err)
	}
	spec := out.Table.StreamSpecification
	if spec == nil || !aws.ToBool(spec.StreamEnabled) || spec.StreamViewType != tabletypes.StreamViewTypeNewAndOldImages {
		return nil, fmt.Errorf("the table %s has no stream of new and old images, from which usage is counted: enable one", table)
	}
	return &Stream{client: c, ARN: aws.ToString(out.Table.LatestStreamArn), Label: aws.ToString(out.Table.LatestStreamLabel)}, nil
}

// Of is a stream whose name is known already.
func Of(c client, arn string) *Stream { return &Stream{client: c, ARN: arn} }

// A Shard is a part of a stream. A child begins where its parent ended.
type Shard struct {
	ID, Parent string // Parent may be gone, or "": there was none
}

// Shards are those that the stream has now.
func (s *Stream) Shards(ctx context.Context) (shards []Shard, err error) {
	in := &dynamodbstreams.DescribeStreamInput{StreamArn: aws.String(s.ARN)}
	for {
		out, err := s.client.DescribeStream(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("reading the stream's shards: %w", err)
		}
		for _, shard := range out.StreamDescription.Shards {
			shards = append(shards, Shard{aws.ToString(shard.ShardId), aws.ToString(shard.ParentShardId)})
		}
		if in.ExclusiveStartShardId = out.StreamDescription.LastEvaluatedShardId; in.ExclusiveStartShardId == nil {
			return shards, nil
		}
	}
}

// A Reader reads the records of a shard in their order. It is for one goroutine.
type Reader struct {
	stream   *Stream
	shard    string
	kind     types.ShardIteratorType
	sequence string // where to begin, by kind
	iterator *string
	ended    bool
}

// After reads on after a record; from the oldest there is if sequence is "".
func (s *Stream) After(shard, sequence string) *Reader {
	r := &Reader{stream: s, shard: shard, kind: types.ShardIteratorTypeTrimHorizon, sequence: sequence}
	if sequence != "" {
		r.kind = types.ShardIteratorTypeAfterSequenceNumber
	}
	return r
}

// From reads from a record on.
func (s *Stream) From(shard, sequence string) *Reader {
	return &Reader{stream: s, shard: shard, kind: types.ShardIteratorTypeAtSequenceNumber, sequence: sequence}
}

// page is how many records are read at once: as many as the engine gives.
const page = 1000

// Next reads more records. There may be none, and more later: end tells that
// there are none any more. After an error it may be called again. An error
// that matches ErrTrimmed says that some of those that come next are gone.
func (r *Reader) Next(ctx context.Context) (records []types.Record, end bool, err error) {
	if r.ended {
		return nil, true, nil
	}
	if r.iterator == nil {
		in := &dynamodbstreams.GetShardIteratorInput{StreamArn: aws.String(r.stream.ARN), ShardId: aws.String(r.shard), ShardIteratorType: r.kind}
		if r.kind != types.ShardIteratorTypeTrimHorizon {
			in.SequenceNumber = aws.String(r.sequence)
		}
		out, err := r.stream.client.GetShardIterator(ctx, in)
		if err != nil {
			return nil, false, r.failed("finding the place in the shard", err)
		}
		r.iterator = out.ShardIterator
	}
	out, err := r.stream.client.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{ShardIterator: r.iterator, Limit: aws.Int32(page)})
	if err != nil {
		r.iterator = nil // it may be too old
		return nil, false, r.failed("reading records of the shard", err)
	}
	if n := len(out.Records); n > 0 {
		r.kind, r.sequence = types.ShardIteratorTypeAfterSequenceNumber, aws.ToString(out.Records[n-1].Dynamodb.SequenceNumber)
	}
	r.iterator = out.NextShardIterator
	r.ended = r.iterator == nil
	return out.Records, r.ended, nil
}

func (r *Reader) failed(what string, err error) error {
	if _, trimmed := errors.AsType[*types.TrimmedDataAccessException](err); trimmed {
		return fmt.Errorf("%s %s: %w (%w)", what, r.shard, ErrTrimmed, err)
	}
	if _, gone := errors.AsType[*types.ResourceNotFoundException](err); gone {
		return fmt.Errorf("%s %s: %w: %w (%w)", what, r.shard, ErrGone, ErrTrimmed, err)
	}
	return fmt.Errorf("%s %s: %w", what, r.shard, err)
}

// Record is a record as usage is counted from it.
func Record(r *types.Record) usage.Record {
	d := r.Dynamodb
	if d == nil {
		return usage.Record{}
	}
	u := usage.Record{
		Sequence: aws.ToString(d.SequenceNumber), PK: textIn(d.Keys, "PK"), SK: textIn(d.Keys, "SK"),
		Old: image(d.OldImage), New: image(d.NewImage),
	}
	if d.ApproximateCreationDateTime != nil {
		u.Created = *d.ApproximateCreationDateTime
	}
	return u
}

func image(item map[string]types.AttributeValue) usage.Image {
	if item == nil {
		return nil
	}
	i := usage.Image{}
	for name := range item {
		if usage.Wanted(name) {
			i[name] = textIn(item, name)
		}
	}
	return i
}

// textIn is a text or a number; "" if it is neither.
func textIn(item map[string]types.AttributeValue, name string) string {
	switch v := item[name].(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return v.Value
	}
	return ""
}
