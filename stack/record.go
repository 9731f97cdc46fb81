package stack

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/mod/semver"

	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/schema"
)

// recordClient is the part of *dynamodb.Client that the version record needs. A write is
// an UpdateItem, which the acquire policy allows.
type recordClient interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
}

// A Record is what a table says of versions.
type Record struct {
	Schema    string    `json:"schema_version"`
	Lambda    string    `json:"lambda_version,omitempty"` // of the aggregator's code; empty if there is none
	ClientMin string    `json:"client_min_version"`       // older programs are refused
	Windows   string    `json:"windows,omitempty"`        // that the aggregator counts by, such as "hourly,daily"; empty if there is none
	Retention int       `json:"retention_days,omitempty"` // for which it keeps usage; 0 if there is none
	UpdatedAt time.Time `json:"updated_at"`
	UpdatedBy string    `json:"updated_by"`
}

// writeAttempts bounds the attempts of a write that others overtake.
const writeAttempts = 10

// readRecord reads the record; nil if there is none.
func (s *Stack) readRecord(ctx context.Context) (*Record, error) {
	out, err := s.records.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.name, Key: schema.SystemKey(schema.VersionKey), ConsistentRead: aws.Bool(true)})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		return nil, fmt.Errorf("stack: reading the versions: %w: %s in %s", dynamostore.ErrNoTable, s.name, s.region)
	}
	if err != nil {
		return nil, fmt.Errorf("stack: reading the versions of %s: %w", s.name, err)
	}
	text := func(name string) string { return schema.TextIn(out.Item, name) }
	if text("schema_version") == "" {
		return nil, nil
	}
	r := &Record{Schema: text("schema_version"), Lambda: text("lambda_version"), ClientMin: text("client_min_version"), UpdatedBy: text("updated_by")}
	r.Windows = text(schema.RecordWindows)
	r.Retention, _ = strconv.Atoi(text(schema.RecordRetention)) // anything else is not known
	if t := text("updated_at"); t != "" {
		if r.UpdatedAt, err = time.Parse(time.RFC3339Nano, t); err != nil {
			return nil, fmt.Errorf("stack: the versions of %s: updated_at: %w", s.name, err)
		}
	}
	return r, nil
}

// writeRecord replaces old, nil for none; not ok if it is no longer what is there.
// What only some records have is written as "" where there is none.
func (s *Stack) writeRecord(ctx context.Context, old *Record, r Record) (ok bool, err error) {
	in := &dynamodb.UpdateItemInput{
		TableName: &s.name, Key: schema.SystemKey(schema.VersionKey),
		UpdateExpression:    aws.String("SET #s = :s, #l = :l, #c = :c, #w = :w, #r = :r, #t = :t, #b = :b"),
		ConditionExpression: aws.String("attribute_not_exists(#s)"),
		ExpressionAttributeNames: map[string]string{
			"#s": "schema_version", "#l": "lambda_version", "#c": "client_min_version", "#t": "updated_at", "#b": "updated_by",
			"#w": schema.RecordWindows, "#r": schema.RecordRetention,
		},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":s": schema.Text(r.Schema), ":l": schema.Text(r.Lambda), ":c": schema.Text(r.ClientMin), ":w": schema.Text(r.Windows), ":r": schema.Text(r.retention()),
			":t": schema.Text(r.UpdatedAt.UTC().Format(time.RFC3339Nano)), ":b": schema.Text(r.UpdatedBy),
		},
	}
	if old != nil {
		in.ConditionExpression = aws.String("#s = :os AND #l = :ol AND #c = :oc AND (#w = :ow OR attribute_not_exists(#w)) AND (#r = :or OR attribute_not_exists(#r))")
		for name, v := range map[string]string{":os": old.Schema, ":ol": old.Lambda, ":oc": old.ClientMin, ":ow": old.Windows, ":or": old.retention()} {
			in.ExpressionAttributeValues[name] = schema.Text(v)
		}
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
func (s *Stack) ensureRecord(ctx context.Context, by string) (*Record, error) {
	for range writeAttempts {
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
func (s *Stack) record(ctx context.Context, d *snapshot, by string) (*Record, error) {
	for n := range writeAttempts {
		old, err := s.readRecord(ctx)
		if err != nil {
			return nil, err
		}
		if old != nil {
			if err := compareVersions(old, devel).err; err != nil {
				return nil, err
			}
			if old.withFunction(d.function()) == *old {
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
		r := old.withFunction(d.function())
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

// A function is what a record says of the one that is deployed.
type function struct {
	version, windows string
	retention        int
}

func (d *snapshot) function() function {
	if d.params[paramAggregator] != "true" {
		return function{}
	}
	days, _ := strconv.Atoi(d.params[paramRetentionDays]) // 0 is not known
	return function{d.lambda(), d.params[paramWindows], days}
}

// retention is the attribute's text; empty if there is none.
func (r *Record) retention() string {
	if r.Retention == 0 {
		return ""
	}
	return strconv.Itoa(r.Retention)
}

// upTo is a record, nil for none, brought to a function.
func (r *Record) withFunction(f function) Record {
	up := Record{Schema: SchemaVersion, ClientMin: leastClient}
	if r != nil {
		up = *r
		up.Schema, up.ClientMin = greater(r.Schema, SchemaVersion), greater(r.ClientMin, leastClient)
	}
	up.Lambda, up.Windows, up.Retention = f.version, f.windows, f.retention
	return up
}

// greater of two versions, the first of equals.
func greater(a, b string) string {
	if release(a) == "" || semver.Compare(release(a), release(b)) < 0 {
		return b
	}
	return a
}
