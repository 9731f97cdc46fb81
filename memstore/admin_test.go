package memstore_test

import (
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// What a caller does with the result of a change does not change what a repetition of it is
// told.
func TestRepetitionHasTheFirstResult(t *testing.T) {
	t.Parallel()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetLimits(t.Context(), zael.Scope{}, []zael.Limit{zael.EachDay("q", 10)}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		got, err := l.TopUp(t.Context(), "alice", "gpt-4", zael.Amounts{"q": 5}, zael.AdminOptions{IdempotencyKey: "gift"})
		if err != nil || got["q"] != 15 {
			t.Errorf("call %d: got %v, %v, want q=15", i+1, got, err)
		}
		got["q"] = 99
	}
}
