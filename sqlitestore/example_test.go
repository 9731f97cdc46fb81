package sqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
)

// Programs that open the same file share its limits.
func Example() {
	dir, err := os.MkdirTemp("", "zael")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	store, err := sqlitestore.Open(ctx, filepath.Join(dir, "zael.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)
	limiter, err := zael.New(store, nil)
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		err := limiter.Allow(ctx, zael.Request{
			Entity: "key-1", Resource: "gpt-4",
			Limits:  []zael.Limit{zael.PerDay("requests", 2)},
			Consume: zael.Amounts{"requests": 1},
		})
		fmt.Println(err == nil, errors.Is(err, zael.ErrExceeded))
	}
	// Output:
	// true false
	// true false
	// false true
}
