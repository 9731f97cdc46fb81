package worker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/usage/worker"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	type state = worker.LeaseState
	const length = 10 * time.Second
	for what, c := range map[string]struct {
		states []state
		want   []string
	}{
		"alone: all":                      {[]state{{Shard: "a"}, {Shard: "b"}, {Shard: "c"}}, []string{"a", "b", "c"}},
		"none":                            {nil, nil},
		"done":                            {[]state{{Shard: "a", Done: true}}, nil},
		"a child waits":                   {[]state{{Shard: "a"}, {Shard: "b", Parent: "a"}}, []string{"a"}},
		"until its parent is done":        {[]state{{Shard: "a", Done: true}, {Shard: "b", Parent: "a"}}, []string{"b"}},
		"or gone":                         {[]state{{Shard: "b", Parent: "a"}}, []string{"b"}},
		"or gone before it was done":      {[]state{{Shard: "a", Gone: true}, {Shard: "b", Parent: "a"}}, []string{"b"}},
		"half, beside another worker":     {[]state{{Shard: "a", Owner: "other"}, {Shard: "b"}, {Shard: "c"}, {Shard: "d", Owner: "other"}}, []string{"b", "c"}},
		"not more than our share":         {[]state{{Shard: "a", Owner: "me"}, {Shard: "b"}, {Shard: "c", Owner: "other"}, {Shard: "d"}}, []string{"b"}},
		"of a dead worker":                {[]state{{Shard: "a", Owner: "other", Age: length}, {Shard: "b", Owner: "other", Age: length}}, []string{"a", "b"}},
		"not of a live one":               {[]state{{Shard: "a", Owner: "other", Age: length - 1}}, nil},
		"one of the worker that has most": {[]state{{Shard: "a", Owner: "x"}, {Shard: "b", Owner: "x"}, {Shard: "c", Owner: "x"}, {Shard: "d", Owner: "y"}}, []string{"a"}},
		"none if that evens out nothing":  {[]state{{Shard: "a", Owner: "x"}, {Shard: "b", Owner: "me"}, {Shard: "c", Owner: "x"}}, nil},
		"more workers than shards":        {[]state{{Shard: "a", Owner: "x"}, {Shard: "b", Owner: "y"}}, nil},
	} {
		if got := worker.Choose(c.states, "me", length); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
	}
}
