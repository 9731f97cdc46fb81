// Package stream reads a table's stream: its shards, and the records of a shard.
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

// Retention is how long a stream keeps a record.
const Retention = 24 * time.Hour

// ErrTrimmed matches the errors of records that are older than Retention.
var ErrTrimmed = errors.New("the stream no longer has the records: it keeps them for 24 hours")

// ErrGone matches, besides ErrTrimmed, the errors of a shard that is gone as a whole.
var ErrGone = errors.New("the shard is gone")

// A Stream is the stream of one table. It may be used concurrently.
type Stream struct {
	client client
	ARN    string
	Label  string // tells the streams of one table apart
}

// Open finds the stream of a table, which must have new and old images.
func Open(ctx context.Context, tables describer, c client, table string) (*Stream, error) {
	out, err := tables.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: aws.String(table)})
	if err != nil {
		return nil, fmt.Errorf("looking up the stream of the table %s: %w", table, err)
	}
	spec := out.Table.StreamSpecification
	if spec == nil || !aws.ToBool(spec.StreamEnabled) || spec.StreamViewType != tabletypes.StreamViewTypeNewAndOldImages {
		return nil, fmt.Errorf("the table %s has no stream of new and old images, from which usage is counted: enable one", table)
	}
	return &Stream{client: c, ARN: aws.ToString(out.Table.LatestStreamArn), Label: aws.ToString(out.Table.LatestStreamLabel)}, nil
}

// Of returns the stream with an ARN. It has no Label.
func Of(c client, arn string) *Stream { return &Stream{client: c, ARN: arn} }

// A Shard is a part of a stream. It begins where its parent ended.
type Shard struct {
	ID, Parent string // Parent may be gone already, or "" if there was none
}

// Shards returns the shards that the stream has now.
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

// A Reader reads the records of a shard in order. It must not be used concurrently.
type Reader struct {
	stream   *Stream
	shard    string
	start    types.ShardIteratorType // where the next iterator starts,
	sequence string                  // relative to this record
	iterator *string
	ended    bool
}

// After returns a Reader of the records after the one with a sequence number, or of all
// that are left if it is "".
func (s *Stream) After(shard, sequence string) *Reader {
	r := &Reader{stream: s, shard: shard, start: types.ShardIteratorTypeTrimHorizon, sequence: sequence}
	if sequence != "" {
		r.start = types.ShardIteratorTypeAfterSequenceNumber
	}
	return r
}

// From returns a Reader of the record with a sequence number and those after it.
func (s *Stream) From(shard, sequence string) *Reader {
	return &Reader{stream: s, shard: shard, start: types.ShardIteratorTypeAtSequenceNumber, sequence: sequence}
}

// pageSize is how many records are read at once: the most that DynamoDB allows.
const pageSize = 1000

// Next reads more records. It may return none although more will come; end reports that
// the shard is closed and has no more. After an error it may be called again. An error
// that matches ErrTrimmed means that some of the next records are gone.
func (r *Reader) Next(ctx context.Context) (records []usage.Record, end bool, err error) {
	if r.ended {
		return nil, true, nil
	}
	if r.iterator == nil {
		in := &dynamodbstreams.GetShardIteratorInput{StreamArn: aws.String(r.stream.ARN), ShardId: aws.String(r.shard), ShardIteratorType: r.start}
		if r.start != types.ShardIteratorTypeTrimHorizon {
			in.SequenceNumber = aws.String(r.sequence)
		}
		out, err := r.stream.client.GetShardIterator(ctx, in)
		if err != nil {
			return nil, false, r.wrap("finding the position in the shard", err)
		}
		r.iterator = out.ShardIterator
	}
	out, err := r.stream.client.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{ShardIterator: r.iterator, Limit: aws.Int32(pageSize)})
	if err != nil {
		r.iterator = nil // it may have expired
		return nil, false, r.wrap("reading records of the shard", err)
	}
	for i := range out.Records {
		records = append(records, recordOf(&out.Records[i]))
	}
	if n := len(records); n > 0 {
		r.start, r.sequence = types.ShardIteratorTypeAfterSequenceNumber, records[n-1].Sequence
	}
	r.iterator = out.NextShardIterator
	r.ended = r.iterator == nil
	return records, r.ended, nil
}

func (r *Reader) wrap(what string, err error) error {
	if _, trimmed := errors.AsType[*types.TrimmedDataAccessException](err); trimmed {
		return fmt.Errorf("%s %s: %w (%w)", what, r.shard, ErrTrimmed, err)
	}
	if _, gone := errors.AsType[*types.ResourceNotFoundException](err); gone {
		return fmt.Errorf("%s %s: %w: %w (%w)", what, r.shard, ErrGone, ErrTrimmed, err)
	}
	return fmt.Errorf("%s %s: %w", what, r.shard, err)
}

// recordOf converts a record of the library.
func recordOf(r *types.Record) usage.Record {
	d := r.Dynamodb
	if d == nil {
		return usage.Record{}
	}
	u := usage.Record{
		Sequence: aws.ToString(d.SequenceNumber), PK: textIn(d.Keys, "PK"), SK: textIn(d.Keys, "SK"),
		Old: imageOf(d.OldImage), New: imageOf(d.NewImage),
	}
	if d.ApproximateCreationDateTime != nil {
		u.Created = *d.ApproximateCreationDateTime
	}
	return u
}

func imageOf(item map[string]types.AttributeValue) usage.Image {
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

// textIn returns a text or number of an item as text, "" if it is neither.
func textIn(item map[string]types.AttributeValue, name string) string {
	switch v := item[name].(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return v.Value
	}
	return ""
}
