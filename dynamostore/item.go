package dynamostore

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/schema"
)

// item is what the SDK calls an item.
type item = map[string]types.AttributeValue

// recordOf reads a bucket's item; nil if there is none.
func recordOf(it item) (*protocol.Record, error) {
	r, err := protocol.ReadRecord(it, valueOf)
	if err != nil {
		return nil, fmt.Errorf("dynamostore: item %s %s: %w", schema.TextIn(it, "PK"), schema.TextIn(it, "SK"), err)
	}
	return r, nil
}

// valueOf converts an attribute; of other types than the protocol's it makes an empty text.
func valueOf(v types.AttributeValue) protocol.Value {
	switch v := v.(type) {
	case *types.AttributeValueMemberN:
		return protocol.Value{Text: v.Value, IsNumber: true}
	case *types.AttributeValueMemberS:
		return protocol.Value{Text: v.Value}
	}
	return protocol.Value{}
}

// attributeOf converts a value.
func attributeOf(v protocol.Value) types.AttributeValue {
	if v.IsNumber {
		return &types.AttributeValueMemberN{Value: v.Text}
	}
	return &types.AttributeValueMemberS{Value: v.Text}
}

// updateInput returns an update as the SDK takes it.
func (s *Store) updateInput(u *protocol.Update) *dynamodb.UpdateItemInput {
	values := make(item, len(u.Values))
	for _, b := range u.Values {
		values[b.Placeholder] = attributeOf(b.Value)
	}
	return &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 s.itemKey(u.Key),
		ConditionExpression:                 aws.String(u.Condition),
		UpdateExpression:                    aws.String(u.Update),
		ExpressionAttributeNames:            u.Names,
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		ReturnConsumedCapacity:              s.capacity(),
	}
}

func (s *Store) itemKey(key zael.Key) item {
	return schema.ItemKey(s.keys.Entity(key.Entity), bucketKey+key.Resource)
}

// capacity returns whether a call is to tell its price.
func (s *Store) capacity() types.ReturnConsumedCapacity {
	if s.trial.CountUnits {
		return types.ReturnConsumedCapacityIndexes
	}
	return types.ReturnConsumedCapacityNone
}
