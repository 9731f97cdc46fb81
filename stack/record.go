package stack

import (
	"cmp"
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

// A Record is the version record of a table.
type Record struct {
	Schema    string    `json:"schema_version"`
	Lambda    string    `json:"lambda_version,omitempty"` // of the aggregator's code; empty if there is none
	ClientMin string    `json:"client_min_version"`       // older programs are refused
	Windows   string    `json:"windows,omitempty"`        // that the aggregator counts by, such as "hourly,daily"; empty if there is none
	Retention int       `json:"retention_days,omitempty"` // for which it keeps usage; 0 if there is none
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	UpdatedBy string    `json:"updated_by"`

	// Unknown says that the record does not know whether there is an aggregator, and
	// which: its stack is being created or updated, or nobody has looked since.
	Unknown bool `json:"aggregator_unknown,omitempty"`
}

// A Function is the aggregator of a stack as far as the version record knows it. The zero
// Function is none.
type Function struct {
	Version       string // of zael that its code is of
	Windows       string // that it counts by, such as "hourly,daily"
	RetentionDays int    // for which it keeps usage
}

// function returns the aggregator of the record; nil if it is unknown.
func (r *Record) function() *Function {
	if r.Unknown {
		return nil
	}
	return &Function{r.Lambda, r.Windows, r.Retention}
}

// withFunction returns the record, nil for none, with another aggregator, nil for an
// unknown one. It never takes a version back that others rely on: of the schema's and the
// least client's the greater stays.
func (r *Record) withFunction(f *Function) Record {
	up := Record{Schema: SchemaVersion, ClientMin: leastClient}
	if r != nil {
		up = *r
		up.Schema, up.ClientMin = greater(r.Schema, SchemaVersion), greater(r.ClientMin, leastClient)
	}
	up.Unknown = f == nil
	if f == nil {
		f = new(Function)
	}
	up.Lambda, up.Windows, up.Retention = f.Version, f.Windows, f.RetentionDays
	return up
}

// retention returns the attribute's text; empty if there is no function.
func (f *Function) retention() string {
	if f.RetentionDays == 0 {
		return ""
	}
	return strconv.Itoa(f.RetentionDays)
}

// functionOf returns the function of a stack with these parameters.
func functionOf(params map[string]string) *Function {
	if params[paramAggregator] != "true" {
		return new(Function)
	}
	days, _ := strconv.Atoi(params[paramRetentionDays]) // the template takes numbers only
	return &Function{cmp.Or(params[paramCodeVersion], devel), params[paramWindows], days}
}

// A RecordDifference is what the version record says otherwise than the stack.
type RecordDifference struct {
	What     string `json:"what"` // "aggregator", "windows" or "retention_days"
	Recorded string `json:"recorded"`
	Deployed string `json:"deployed"`
}

// differences compares the record with the function that is deployed.
func (r *Record) differences(f *Function) []RecordDifference {
	if r.Unknown {
		return []RecordDifference{{"aggregator", "unknown", orNone(f.Version)}}
	}
	own := r.function()
	var all []RecordDifference
	for _, d := range []RecordDifference{
		{"aggregator", own.Version, f.Version}, {"windows", own.Windows, f.Windows}, {"retention_days", own.retention(), f.retention()},
	} {
		if d.Recorded != d.Deployed {
			all = append(all, RecordDifference{d.What, orNone(d.Recorded), orNone(d.Deployed)})
		}
	}
	return all
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// readRecord reads the record; nil if there is none.
func (s *Stack) readRecord(ctx context.Context) (*Record, error) {
	out, err := s.records.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.name, Key: schema.SystemKey(schema.VersionKey), ConsistentRead: aws.Bool(true)})
	if isMissing(err) {
		return nil, fmt.Errorf("stack: reading the versions: %w: %s in %s", dynamostore.ErrNoTable, s.name, s.region)
	}
	if err != nil {
		return nil, fmt.Errorf("stack: reading the versions of %s: %w", s.name, err)
	}
	text := func(name string) string { return schema.TextIn(out.Item, name) }
	if text("schema_version") == "" {
		return nil, nil
	}
	r := &Record{
		Schema: text("schema_version"), Lambda: text("lambda_version"), ClientMin: text("client_min_version"), UpdatedBy: text("updated_by"),
		Windows: text(schema.RecordWindows), Unknown: out.Item["lambda_version"] == nil,
	}
	r.Retention, _ = strconv.Atoi(text(schema.RecordRetention)) // anything else differs from what is deployed
	if t := text("updated_at"); t != "" {
		if r.UpdatedAt, err = time.Parse(time.RFC3339Nano, t); err != nil {
			return nil, fmt.Errorf("stack: the versions of %s: updated_at: %w", s.name, err)
		}
	}
	return r, nil
}

// writeRecord replaces old, nil for none; ok is false if old is no longer what is there.
// An aggregator that does not exist is written as "", and an unknown one not at all.
func (s *Stack) writeRecord(ctx context.Context, old *Record, r Record) (ok bool, err error) {
	in := s.recordUpdate(r.UpdatedAt, r.UpdatedBy)
	in.UpdateExpression = aws.String(*in.UpdateExpression + ", #s = :s, #c = :c REMOVE #l, #w, #r")
	in.ConditionExpression = aws.String("attribute_not_exists(#s)")
	in.ExpressionAttributeNames["#c"] = "client_min_version"
	values := in.ExpressionAttributeValues
	values[":s"], values[":c"] = schema.Text(r.Schema), schema.Text(r.ClientMin)
	if f := r.function(); f != nil {
		in.UpdateExpression = aws.String("SET #t = :t, #b = :b, #s = :s, #c = :c, #l = :l, #w = :w, #r = :r")
		values[":l"], values[":w"], values[":r"] = schema.Text(f.Version), schema.Text(f.Windows), schema.Text(f.retention())
	}
	if old != nil {
		in.ConditionExpression = aws.String("#s = :os AND #c = :oc AND #t = :ot") // the time tells writes apart
		values[":os"], values[":oc"], values[":ot"] = schema.Text(old.Schema), schema.Text(old.ClientMin), timeText(old.UpdatedAt)
	}
	return s.updateRecord(ctx, in)
}

// invalidateRecord has the record not know its aggregator, unless it is f. It is called
// before a stack is given the function f, so that the record is never wrong, however that
// ends. Without a record, or a table, it does nothing.
func (s *Stack) invalidateRecord(ctx context.Context, f *Function, by string) error {
	in := s.recordUpdate(s.now(), by)
	in.UpdateExpression = aws.String(*in.UpdateExpression + " REMOVE #l, #w, #r")
	in.ConditionExpression = aws.String("attribute_exists(#s) AND (attribute_not_exists(#l) OR #l <> :l OR #w <> :w OR #r <> :r)")
	values := in.ExpressionAttributeValues
	values[":l"], values[":w"], values[":r"] = schema.Text(f.Version), schema.Text(f.Windows), schema.Text(f.retention())
	_, err := s.updateRecord(ctx, in)
	if isMissing(err) {
		return nil
	}
	return err
}

// recordUpdate returns an UpdateItem of the record, which says when and by whom it was
// written, with the names of what it is about.
func (s *Stack) recordUpdate(at time.Time, by string) *dynamodb.UpdateItemInput {
	return &dynamodb.UpdateItemInput{
		TableName: &s.name, Key: schema.SystemKey(schema.VersionKey), UpdateExpression: aws.String("SET #t = :t, #b = :b"),
		ExpressionAttributeNames: map[string]string{
			"#s": "schema_version", "#l": "lambda_version", "#t": "updated_at", "#b": "updated_by",
			"#w": schema.RecordWindows, "#r": schema.RecordRetention,
		},
		ExpressionAttributeValues: map[string]types.AttributeValue{":t": timeText(at), ":b": schema.Text(by)},
	}
}

func timeText(t time.Time) types.AttributeValue { return schema.Text(t.UTC().Format(time.RFC3339Nano)) }

// updateRecord writes; ok is false if the condition does not hold.
func (s *Stack) updateRecord(ctx context.Context, in *dynamodb.UpdateItemInput) (ok bool, err error) {
	_, err = s.records.UpdateItem(ctx, in)
	if _, failed := errors.AsType[*types.ConditionalCheckFailedException](err); failed {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stack: writing the versions of %s: %w", s.name, err)
	}
	return true, nil
}

// isMissing reports whether a table is missing.
func isMissing(err error) bool {
	_, missing := errors.AsType[*types.ResourceNotFoundException](err)
	return missing
}

// greater returns the greater of two versions, the first if they are equal.
func greater(a, b string) string {
	if release(a) == "" || semver.Compare(release(a), release(b)) < 0 {
		return b
	}
	return a
}
