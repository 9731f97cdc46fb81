package protocol_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
)

func TestDefinitionText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		d     bucket.Definition
		turns uint64
		want  string
	}{
		{bucket.Definition{Burst: 20_000, Amount: 10_000, Period: time.Minute, Capacity: 10_000}, 0, "1:10000/60s^20000@0.0"},
		{bucket.Definition{Burst: 10, Amount: 10, Period: time.Second, Capacity: 4, Rev: 1768312800000000}, 3, "1:10/1s^10c4@1768312800000000.3"},
		{bucket.Definition{Burst: 1, Amount: 9, Period: time.Second + 1, Capacity: 1}, 1<<32 - 1, "1:9/1000000001n^1@0.4294967295"},
		{bucket.Definition{Burst: 1, Amount: 9, Period: time.Second + 1, Capacity: 1}, 7<<32 + 3, "1:9/1000000001n^1@0.3+7"},
		{bucket.Definition{Burst: bucket.MaxAmount, Amount: 1, Period: bucket.MaxPeriod, Capacity: 2}, 0, "1:1/31622400s^1000000000000000c2@0.0"},
	} {
		got := protocol.DefinitionText(tt.d, tt.turns)
		if got != tt.want {
			t.Errorf("text of %+v: got %q, want %q", tt.d, got, tt.want)
		}
		d, turns, err := protocol.ParseDefinition(got)
		if err != nil || d != tt.d || turns != tt.turns {
			t.Errorf("%q: got %+v, %d and %v, want %+v and %d", got, d, turns, err, tt.d, tt.turns)
		}
	}
	for _, text := range []string{
		"", "1:", "2:10/1s^10@0.0", "1:10/1s^10@0", "1:10/1s^10@.0", "1:10/s^10@0.0", "1:10/1m^10@0.0", "1:0/1s^10@0.0", "1:10/1s^10c11@0.0",
		"1:10/1s^10@-1.0", "1:10/1s^10@0.-1", "1:10/9999999999s^10@0.0", "1:10/1n^10@0.0", "1:10/1s^10c@0.0", "x",
		"1:10/1s^10@0.0+", "1:10/1s^10@0.+1", "1:10/1s^10@0.0+-1", "1:10/1s^10@0.4294967296", "1:10/1s^10@0.0+4294967296",
	} {
		if d, _, err := protocol.ParseDefinition(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, d)
		}
	}
}
