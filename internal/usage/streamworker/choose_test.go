package streamworker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/usage/streamworker"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	type seen = streamworker.Seen
	const length = 10 * time.Second
	for what, c := range map[string]struct {
		seen []seen
		want []string
	}{
		"alone: all":                 {[]seen{{Shard: "a"}, {Shard: "b"}, {Shard: "c"}}, []string{"a", "b", "c"}},
		"none":                       {nil, nil},
		"done":                       {[]seen{{Shard: "a", Done: true}}, nil},
		"a child waits":              {[]seen{{Shard: "a"}, {Shard: "b", Parent: "a"}}, []string{"a"}},
		"until its parent is done":   {[]seen{{Shard: "a", Done: true}, {Shard: "b", Parent: "a"}}, []string{"b"}},
		"or gone":                    {[]seen{{Shard: "b", Parent: "a"}}, []string{"b"}},
		"or gone before it was done": {[]seen{{Shard: "a", Gone: true}, {Shard: "b", Parent: "a"}}, []string{"b"}},
		"half, beside another":       {[]seen{{Shard: "a", Owner: "other"}, {Shard: "b"}, {Shard: "c"}, {Shard: "d", Owner: "other"}}, []string{"b", "c"}},
		"not more than our part":     {[]seen{{Shard: "a", Owner: "me"}, {Shard: "b"}, {Shard: "c", Owner: "other"}, {Shard: "d"}}, []string{"b"}},
		"from one that is dead":      {[]seen{{Shard: "a", Owner: "other", Age: length}, {Shard: "b", Owner: "other", Age: length}}, []string{"a", "b"}},
		"not from one that lives":    {[]seen{{Shard: "a", Owner: "other", Age: length - 1}}, nil},
		"one of who has most":        {[]seen{{Shard: "a", Owner: "x"}, {Shard: "b", Owner: "x"}, {Shard: "c", Owner: "x"}, {Shard: "d", Owner: "y"}}, []string{"a"}},
		"none if it evens nothing":   {[]seen{{Shard: "a", Owner: "x"}, {Shard: "b", Owner: "me"}, {Shard: "c", Owner: "x"}}, nil},
		"more workers than shards":   {[]seen{{Shard: "a", Owner: "x"}, {Shard: "b", Owner: "y"}}, nil},
	} {
		if got := streamworker.Choose(c.seen, "me", length); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
	}
}
