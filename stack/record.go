package stack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/mod/semver"

	"github.com/zeroae/zael/dynamostore"
)

// records is what is used of *dynamodb.Client. A write is an UpdateItem, which
// the policy of those who acquire allows.
type records interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
}

// A Record is what a table says of versions.
type Record struct {
	Schema    string    `json:"schema_version"`
	Lambda    string    `json:"lambda_version,omitempty"` // of the aggregator's code; empty if there is none
	ClientMin string    `json:"client_min_version"`       // older programs are refused
	UpdatedAt time.Time `json:"updated_at"`
	UpdatedBy string    `json:"updated_by"`
}

// Where the record is: in no namespace.
const (
	recordPK = "SYSTEM"
	recordSK = "#VERSION"
	tries    = 10 // of a write that others come before
)

func recordKey() map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		"PK": &types.AttributeValueMemberS{Value: recordPK}, "SK": &types.AttributeValueMemberS{Value: recordSK},
	}
}

// readRecord reads the record; nil if there is none.
func (s *Stack) readRecord(ctx context.Context) (*Record, error) {
	out, err := s.records.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.name, Key: recordKey(), ConsistentRead: aws.Bool(true)})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		return nil, fmt.Errorf("stack: reading the versions of %s: %w", s.name, dynamostore.ErrNoTable)
	}
	if err != nil {
		return nil, fmt.Errorf("stack: reading the versions of %s: %w", s.name, err)
	}
	text := func(name string) string {
		if v, ok := out.Item[name].(*types.AttributeValueMemberS); ok {
			return v.Value
		}
		return ""
	}
	if text("schema_version") == "" {
		return nil, nil
	}
	r := &Record{Schema: text("schema_version"), Lambda: text("lambda_version"), ClientMin: text("client_min_version"), UpdatedBy: text("updated_by")}
	if t := text("updated_at"); t != "" {
		if r.UpdatedAt, err = time.Parse(time.RFC3339Nano, t); err != nil {
			return nil, fmt.Errorf("stack: the versions of %s: updated_at: %w", s.name, err)
		}
	}
	return r, nil
}

// writeRecord replaces old, nil for none; not ok if it is no longer what is there.
func (s *Stack) writeRecord(ctx context.Context, old *Record, r Record) (ok bool, err error) {
	text := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	in := &dynamodb.UpdateItemInput{
		TableName: &s.name, Key: recordKey(),
		UpdateExpression:    aws.String("SET #s = :s, #l = :l, #c = :c, #t = :t, #b = :b"),
		ConditionExpression: aws.String("attribute_not_exists(#s)"),
		ExpressionAttributeNames: map[string]string{
			"#s": "schema_version", "#l": "lambda_version", "#c": "client_min_version", "#t": "updated_at", "#b": "updated_by",
		},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":s": text(r.Schema), ":l": text(r.Lambda), ":c": text(r.ClientMin),
			":t": text(r.UpdatedAt.UTC().Format(time.RFC3339Nano)), ":b": text(r.UpdatedBy),
		},
	}
	if old != nil {
		in.ConditionExpression = aws.String("#s = :os AND #l = :ol AND #c = :oc")
		in.ExpressionAttributeValues[":os"], in.ExpressionAttributeValues[":ol"] = text(old.Schema), text(old.Lambda)
		in.ExpressionAttributeValues[":oc"] = text(old.ClientMin)
	}
	_, err = s.records.UpdateItem(ctx, in)
	if _, failed := errors.AsType[*types.ConditionalCheckFailedException](err); failed {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stack: writing the versions of %s: %w", s.name, err)
	}
	return true, nil
}

// firstRecord reads the record, and writes one where there is none: of a table
// that no Apply has made.
func (s *Stack) firstRecord(ctx context.Context, by string) (*Record, error) {
	for range tries {
		r, err := s.readRecord(ctx)
		if r != nil || err != nil {
			return r, err
		}
		fresh := Record{Schema: SchemaVersion, ClientMin: leastClient, UpdatedAt: s.now(), UpdatedBy: by}
		if ok, err := s.writeRecord(ctx, nil, fresh); ok || err != nil {
			return &fresh, err
		}
	}
	return nil, fmt.Errorf("stack: the version record of %s comes and goes", s.name)
}

// record brings the record to what is deployed. It never takes a version back
// that others rely on: of the schema's and the least client's the greater stays.
//
// Other programs may change stack and record meanwhile. So where the record differs
// from what was last seen deployed, that is looked at again after the record was
// read, and the record is written only if it has not changed since.
func (s *Stack) record(ctx context.Context, d *deployed, by string) (*Record, error) {
	for n := range tries {
		old, err := s.readRecord(ctx)
		if err != nil {
			return nil, err
		}
		if old != nil {
			if err := judge(old, devel).err; err != nil {
				return nil, err
			}
			if old.upTo(d.lambda()) == *old {
				return old, nil
			}
		}
		if old != nil || n > 0 {
			now, err := s.describe(ctx, d.id)
			if err != nil {
				return nil, err
			}
			if now == nil || now.busy() {
				return old, nil // who is at it writes what comes of it
			}
			d = now
		}
		r := old.upTo(d.lambda())
		if old != nil && r == *old {
			return old, nil
		}
		r.UpdatedAt, r.UpdatedBy = s.now(), by
		if ok, err := s.writeRecord(ctx, old, r); ok || err != nil {
			return &r, err
		}
	}
	return nil, fmt.Errorf("stack: others keep changing the version record of %s", s.name)
}

// upTo is a record, nil for none, brought to a version of the function.
func (r *Record) upTo(lambda string) Record {
	if r == nil {
		return Record{Schema: SchemaVersion, Lambda: lambda, ClientMin: leastClient}
	}
	up := *r
	up.Schema, up.Lambda, up.ClientMin = greater(r.Schema, SchemaVersion), lambda, greater(r.ClientMin, leastClient)
	return up
}

// greater of two versions, the first of equals.
func greater(a, b string) string {
	if release(a) == "" || semver.Compare(release(a), release(b)) < 0 {
		return b
	}
	return a
}
