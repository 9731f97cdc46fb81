package schema

import (
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Text is an attribute with a text.
func Text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// Number is an attribute with a whole number.
func Number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// TextIn is the text that an item has under a name; empty if it has none.
func TextIn(item map[string]types.AttributeValue, name string) string {
	if v, ok := item[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

// NumberIn is the whole number that an item has under a name; 0 if it has none.
// One beyond int64 is its end, and an error that matches strconv.ErrRange.
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

// ItemKey is the key of an item.
func ItemKey(pk, sk string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"PK": Text(pk), "SK": Text(sk)}
}

// SystemKey is the key of an item of System of no namespace.
func SystemKey(sk string) map[string]types.AttributeValue { return ItemKey(Of("").System(), sk) }
