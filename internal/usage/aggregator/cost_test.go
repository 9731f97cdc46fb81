package aggregator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/usage"
)

// A meter adds up what writes cost.
type meter struct {
	*dynamodb.Client
	calls        int
	table, index float64
}

func (m *meter) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	in.ReturnConsumedCapacity = types.ReturnConsumedCapacityIndexes
	out, err := m.Client.UpdateItem(ctx, in, opts...)
	m.calls++
	if err == nil {
		m.table += *out.ConsumedCapacity.Table.CapacityUnits
		for _, index := range out.ConsumedCapacity.GlobalSecondaryIndexes {
			m.index += *index.CapacityUnits
		}
	}
	return out, err
}

// Usage costs one write unit for each batch, bucket and window, and one of the index for the
// first of a window, even with long names.
func TestCost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := &meter{Client: b.tables}
	c, err := usage.New(m, b.table, &usage.Config{Windows: []zael.Window{zael.Hourly}})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"requests-per-minute", "tokens-per-minute-in", "tokens-per-minute-ou", "requests-per-day-all"}
	at := time.Now() // an older item could expire
	image := func(n int) usage.Image {
		i := usage.Image{"b": "0123456789abcdef", "r": "12", "v": fmt.Sprint(n), "e": fmt.Sprint(n)}
		for _, name := range names {
			i["c_"+name] = fmt.Sprint(n * 1_000_000_007)
		}
		return i
	}
	batch := func(from, to int) (records []usage.Record) {
		for n := from; n < to; n++ {
			r := usage.Record{
				Sequence: fmt.Sprintf("%021d", 800000000000+n), Created: at, New: image(n + 1),
				PK: "E#" + strings.Repeat("e", 64), SK: "B#" + strings.Repeat("r", 30),
			}
			if n > 0 {
				r.Old = image(n)
			}
			records = append(records, r)
		}
		return records
	}
	for _, s := range []struct {
		what         string
		from, to     int
		calls        int
		table, index float64
	}{
		{"the first batch of a window", 0, 100, 1, 1, 1},
		{"the next", 100, 200, 1, 1, 0},
		{"the same again", 100, 200, 1, 0, 0}, // AWS bills a unit for a condition that fails
		{"one after a gap", 300, 400, 1, 1, 0},
		{"the next after it", 400, 410, 1, 1, 0},
		{"those in the gap", 200, 300, 1, 0, 0},
		{"the last", 410, 420, 1, 1, 0},
	} {
		m.calls, m.table, m.index = 0, 0, 0
		if r := c.Count(t.Context(), batch(s.from, s.to)); len(r.Failures) > 0 {
			t.Fatalf("%s: got %+v, want no failures", s.what, r)
		}
		if m.calls != s.calls || m.table != s.table || m.index != s.index {
			t.Errorf("%s: got %d calls, %v units of the table and %v of the index, want %d, %v and %v",
				s.what, m.calls, m.table, m.index, s.calls, s.table, s.index)
		}
	}
}
