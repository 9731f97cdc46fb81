package dynamostore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// item is what the library calls an item.
type item = map[string]types.AttributeValue

// recordOf reads a bucket's item; nil if there is none.
func recordOf(it item) (*record, error) {
	if len(it) == 0 {
		return nil, nil //nolint:nilnil // as it is
	}
	r, err := readRecord(it)
	if err != nil {
		return nil, fmt.Errorf("dynamostore: item %s %s: %w", schema.TextIn(it, "PK"), schema.TextIn(it, "SK"), err)
	}
	return r, nil
}

func readRecord(it item) (*record, error) {
	r := new(record)
	var err error
	if r.ttl, err = schema.NumberIn(it, "ttl"); err != nil {
		return nil, err
	}
	for _, id := range []struct {
		name string
		to   *uint64
	}{{"b", &r.birth}, {"o", &r.last}} {
		if _, ok := it[id.name]; !ok {
			continue
		}
		if *id.to, err = parseID(schema.TextIn(it, id.name)); err != nil {
			return nil, fmt.Errorf("attribute %s: %w", id.name, err)
		}
	}
	removals, err := schema.NumberIn(it, schema.Removals)
	if err != nil {
		return nil, err
	}
	r.removals = uint64(removals)
	for attribute := range it {
		name, ok := strings.CutPrefix(attribute, "m_")
		if !ok {
			continue
		}
		l := limit{name: name, text: schema.TextIn(it, "d_"+name)}
		if l.mark, err = schema.NumberIn(it, attribute); err != nil {
			return nil, err
		}
		if l.def, l.turns, err = parseText(l.text); err != nil {
			return nil, fmt.Errorf("attribute d_%s: %w", name, err)
		}
		// One that is beyond int64 counts on, and is not removed.
		if l.count, err = schema.NumberIn(it, schema.Counter+name); err == nil {
			_, l.counted = it[schema.Counter+name]
		}
		r.limits = append(r.limits, l)
	}
	slices.SortFunc(r.limits, func(a, b limit) int { return cmp.Compare(a.name, b.name) })
	return r, nil
}

// input is a write as the library takes it.
func (w write) input(s *Store) *dynamodb.UpdateItemInput {
	values := make(item, len(w.values))
	for i := range w.values {
		if v := &w.values[i]; v.isText {
			values[v.placeholder] = schema.Text(v.text)
		} else {
			values[v.placeholder] = schema.Number(v.number)
		}
	}
	return &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 s.itemKey(w.key),
		ConditionExpression:                 aws.String(w.condition),
		UpdateExpression:                    aws.String(w.update),
		ExpressionAttributeNames:            w.names,
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		ReturnConsumedCapacity:              s.capacity(),
	}
}

func (s *Store) itemKey(key zael.Key) item {
	return schema.ItemKey(s.keys.Entity(key.Entity), bucketKey+key.Resource)
}

// capacity is whether a call is to tell its price.
func (s *Store) capacity() types.ReturnConsumedCapacity {
	if s.config.CountUnits {
		return types.ReturnConsumedCapacityIndexes
	}
	return types.ReturnConsumedCapacityNone
}
