package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// At most so many buckets are in use at once: a flood of new names is refused
// and not kept.
func ExampleNew() {
	limiter, err := zael.New(memstore.New(&memstore.Config{MaxBuckets: 2}), nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, entity := range []string{"a", "b", "c"} {
		err := limiter.Allow(context.Background(), zael.Request{
			Entity: entity, Resource: "gpt-4",
			Limits:  []zael.Limit{zael.PerDay("requests", 2)},
			Consume: zael.Amounts{"requests": 1},
		})
		fmt.Println(err == nil, errors.Is(err, zael.ErrUnavailable))
	}
	// Output:
	// true false
	// true false
	// false true
}
