package aggregator

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/zeroae/zael/internal/usage"
)

// An Event is a batch of a stream's records, as Lambda sends it. Records are decoded one by
// one, so that a bad one does not affect the others.
type Event struct {
	Records []json.RawMessage `json:"Records"`
}

// A Response names the record from which on Lambda must send the batch again. The list
// must not be null: Lambda takes that for an invalid response.
type Response struct {
	BatchItemFailures []BatchItemFailure `json:"batchItemFailures"`
}

// A BatchItemFailure names a record that was not counted.
type BatchItemFailure struct {
	ItemIdentifier string `json:"itemIdentifier"` // its sequence number
}

// A record has those fields of a stream record that are used.
type record struct {
	DynamoDB struct {
		Created  json.RawMessage `json:"ApproximateCreationDateTime"` // seconds since 1970
		Keys     image           `json:"Keys"`
		NewImage image           `json:"NewImage"`
		OldImage image           `json:"OldImage"`
		Sequence string          `json:"SequenceNumber"`
	} `json:"dynamodb"`
}

// An image is an item with its texts and numbers.
type image map[string]attribute

// An attribute is a text, or a number as text; "" if it is neither.
type attribute string

// UnmarshalJSON decodes {"S": "text"} and {"N": "5"}. It never fails: it is for the user
// of an attribute to complain that it is not a number.
func (a *attribute) UnmarshalJSON(data []byte) error {
	var v struct {
		S *string `json:"S"`
		N *string `json:"N"`
	}
	if json.Unmarshal(data, &v) != nil {
		return nil //nolint:nilerr // see above
	}
	switch {
	case v.N != nil:
		*a = attribute(*v.N)
	case v.S != nil:
		*a = attribute(*v.S)
	}
	return nil
}

func (i image) wanted() usage.Image {
	if i == nil {
		return nil
	}
	w := usage.Image{}
	for name, v := range i {
		if usage.Wanted(name) {
			w[name] = string(v)
		}
	}
	return w
}

// decode decodes a record. The sequence number is returned even with an error, if the
// record has one.
func decode(data []byte) (r usage.Record, sequence string, err error) {
	var in record
	err = json.Unmarshal(data, &in)
	sequence = in.DynamoDB.Sequence
	if err != nil {
		var least struct {
			DynamoDB struct {
				Sequence string `json:"SequenceNumber"`
			} `json:"dynamodb"`
		}
		_ = json.Unmarshal(data, &least) // err is reported already
		return r, least.DynamoDB.Sequence, fmt.Errorf("%w: %w", usage.ErrUncountable, err)
	}
	r = usage.Record{
		Sequence: sequence, PK: string(in.DynamoDB.Keys["PK"]), SK: string(in.DynamoDB.Keys["SK"]),
		Old: in.DynamoDB.OldImage.wanted(), New: in.DynamoDB.NewImage.wanted(),
	}
	var seconds float64
	if json.Unmarshal(in.DynamoDB.Created, &seconds) == nil && seconds > 0 {
		r.Created = time.Unix(int64(seconds), 0)
	}
	return r, sequence, nil
}
