package aggregator

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/zeroae/zael/internal/usage"
)

// An Event is a batch of a stream's records as the function gets it. They are
// read one by one, so that one which cannot be read keeps back no other.
type Event struct {
	Records []json.RawMessage `json:"Records"`
}

// A Response names the records from which on the batch is to come again. Its list
// is never null, which would be no answer.
type Response struct {
	BatchItemFailures []BatchItemFailure `json:"batchItemFailures"`
}

// A BatchItemFailure is a record that was not counted.
type BatchItemFailure struct {
	ItemIdentifier string `json:"itemIdentifier"` // its sequence number
}

// A record is as much of one as is read. Its parts are read one after the other:
// the sequence number is known also where the rest is no record.
type record struct {
	DynamoDB struct {
		Created  json.RawMessage `json:"ApproximateCreationDateTime"` // s since 1970
		Keys     image           `json:"Keys"`
		NewImage image           `json:"NewImage"`
		OldImage image           `json:"OldImage"`
		Sequence string          `json:"SequenceNumber"`
	} `json:"dynamodb"`
}

// An image is an item, with the texts and numbers that it has.
type image map[string]attribute

// An attribute is a text or a number as text; "" if it is neither.
type attribute string

// UnmarshalJSON reads {"S": "text"} or {"N": "5"}. It does not fail: that an
// attribute is no number is the business of who needs one.
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

// recordOf reads a record. If it cannot, sequence is its number, where there is one.
func recordOf(data []byte) (r usage.Record, sequence string, err error) {
	var in record
	err = json.Unmarshal(data, &in)
	sequence = in.DynamoDB.Sequence
	if err != nil {
		var least struct {
			DynamoDB struct {
				Sequence string `json:"SequenceNumber"`
			} `json:"dynamodb"`
		}
		_ = json.Unmarshal(data, &least) // err says it all
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
