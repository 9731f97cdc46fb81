package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/storearg"
)

// Keys and index of the table.
const (
	indexName       = schema.Index
	meta            = "#META"
	bucketKey       = schema.BucketKey
	limitsAttribute = "l_" // before a resource, of an entity
	shards          = 16   // of a resource, in the index
)

// longest is how many bytes a name may have: it is part of keys that the engine
// bounds at 1024 bytes.
const longest = 900

// keys makes the keys of items: those of package schema, and more.
type keys struct{ schema.Keys }

func newKeys(namespace string) keys { return keys{schema.Of(namespace)} }

func (k keys) resource(name string) string { return k.Prefix + "R#" + name }
func (k keys) audit(entity string) string  { return k.Prefix + "A#" + entity }

// In the index.
func (k keys) children(parent string) string { return k.Prefix + "P#" + parent }
func (k keys) events() string                { return k.Prefix + "A" }

func (k keys) shard(resource string, n uint32) string {
	return k.Prefix + "R#" + resource + "#" + strconv.Itoa(int(n))
}

func (k keys) bucketIndex(key zael.Key) string {
	h := fnv.New32a()
	h.Write([]byte(key.Entity))
	return k.shard(key.Resource, h.Sum32()%shards)
}

// scope returns where the limits of a scope are: an item, and its attribute.
func (k keys) scope(s zael.Scope) (pk, attribute string) {
	switch {
	case s.Entity != "":
		return k.Entity(s.Entity), limitsAttribute + s.Resource
	case s.Resource != "":
		return k.resource(s.Resource), limitsAttribute
	}
	return k.System(), limitsAttribute
}

// storable says what can be kept, and apart.
//
//nolint:gochecknoglobals // a constant
var storable = storearg.Names{Longest: longest}

func checkName(field, s string) error {
	if s == "" {
		return storearg.Invalid(field, s, "is empty")
	}
	return storable.Name(field, s)
}

func checkKey(k zael.Key) error {
	if err := checkName("entity", k.Entity); err != nil {
		return err
	}
	return checkName("resource", k.Resource)
}

// A creator is what CreateTable uses of *dynamodb.Client.
type creator interface {
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
}

// ErrTableExists is what CreateTable returns if there is a table of the name.
var ErrTableExists = errors.New("dynamostore: table exists")

// TableInput returns the bare table as CreateTable makes it: paid by request, with a
// stream of old and new images and the index.
func TableInput(table string) *dynamodb.CreateTableInput {
	attribute := func(name string) types.AttributeDefinition {
		return types.AttributeDefinition{AttributeName: aws.String(name), AttributeType: types.ScalarAttributeTypeS}
	}
	key := func(name string, kind types.KeyType) types.KeySchemaElement {
		return types.KeySchemaElement{AttributeName: aws.String(name), KeyType: kind}
	}
	return &dynamodb.CreateTableInput{
		TableName:   aws.String(table),
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			attribute("PK"), attribute("SK"), attribute("GSI1PK"), attribute("GSI1SK"),
		},
		KeySchema: []types.KeySchemaElement{key("PK", types.KeyTypeHash), key("SK", types.KeyTypeRange)},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName:  aws.String(indexName),
			KeySchema:  []types.KeySchemaElement{key("GSI1PK", types.KeyTypeHash), key("GSI1SK", types.KeyTypeRange)},
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
		}},
		StreamSpecification: &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewAndOldImages},
	}
}

// CreateTable makes a bare table, without a stack, and returns when it can be
// used. c is a *dynamodb.Client. ErrTableExists, if there is one of the name;
// other errors as those of a Store.
func CreateTable(ctx context.Context, c creator, table string) error {
	if _, err := c.CreateTable(ctx, TableInput(table)); err != nil {
		if _, ok := errors.AsType[*types.ResourceInUseException](err); ok {
			return fmt.Errorf("%w: %s", ErrTableExists, table)
		}
		return translate(ctx, located(c, table), "making the table "+table, err)
	}
	waiter := dynamodb.NewTableExistsWaiter(c, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 100*time.Millisecond, 2*time.Second
	})
	if err := waiter.Wait(ctx, &dynamodb.DescribeTableInput{TableName: aws.String(table)}, 5*time.Minute); err != nil {
		return translate(ctx, located(c, table), "waiting for the table "+table, err)
	}
	_, err := c.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               aws.String(table),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("ttl"), Enabled: aws.Bool(true)},
	})
	return translate(ctx, located(c, table), "setting the expiry of the table "+table, err)
}
