package schema

import (
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Text returns a text attribute.
func Text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// Number returns a number attribute.
func Number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// TextIn returns a text attribute of an item, "" if it has none with that name.
func TextIn(item map[string]types.AttributeValue, name string) string {
	if v, ok := item[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

// NumberIn returns a number attribute of an item, 0 if it has none with that name. For one
// beyond int64 it returns the nearest int64 and an error that matches strconv.ErrRange.
func NumberIn(item map[string]types.AttributeValue, name string) (int64, error) {
	v, ok := item[name].(*types.AttributeValueMemberN)
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(v.Value, 10, 64)
	if err != nil {
		return n, fmt.Errorf("attribute %s: %w", name, err)
	}
	return n, nil
}

// ItemKey returns the key of an item.
func ItemKey(pk, sk string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"PK": Text(pk), "SK": Text(sk)}
}

// SystemKey returns the key of an item in the system partition without a namespace.
func SystemKey(sk string) map[string]types.AttributeValue { return ItemKey(Of("").System(), sk) }
