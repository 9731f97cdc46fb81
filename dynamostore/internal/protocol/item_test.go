package protocol_test

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael/dynamostore/internal/protocol"
)

// The tests run on an engine that speaks the SDK's types, as dynamostore does.

// updateInput returns an update as the SDK takes it.
func updateInput(u *protocol.Update) *dynamodb.UpdateItemInput {
	values := map[string]types.AttributeValue{}
	for _, b := range u.Values {
		if b.Value.IsNumber {
			values[b.Placeholder] = &types.AttributeValueMemberN{Value: b.Value.Text}
		} else {
			values[b.Placeholder] = &types.AttributeValueMemberS{Value: b.Value.Text}
		}
	}
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	return &dynamodb.UpdateItemInput{
		TableName:                           aws.String("fake"),
		Key:                                 map[string]types.AttributeValue{"PK": text("E#" + u.Key.Entity), "SK": text("B#" + u.Key.Resource)},
		ConditionExpression:                 aws.String(u.Condition),
		UpdateExpression:                    aws.String(u.Update),
		ExpressionAttributeNames:            u.Names,
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// recordOf reads an item.
func recordOf(item map[string]types.AttributeValue) (*protocol.Record, error) {
	return protocol.ReadRecord(item, func(v types.AttributeValue) protocol.Value {
		switch v := v.(type) {
		case *types.AttributeValueMemberN:
			return protocol.Value{Text: v.Value, IsNumber: true}
		case *types.AttributeValueMemberS:
			return protocol.Value{Text: v.Value}
		}
		return protocol.Value{}
	})
}
