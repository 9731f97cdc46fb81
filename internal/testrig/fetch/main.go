// Program fetch installs what tests run, once, where it is missing, and prints where it is.
// Tests do that by themselves; it is for those who want it before.
//
//	go run ./internal/testrig/fetch (stack | sdks | envoy | valkey | redis | postgres | postgres13 | pgbouncer)...
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/zeroae/zael/internal/testrig/envoytest"
	"github.com/zeroae/zael/internal/testrig/ministack"
	"github.com/zeroae/zael/internal/testrig/pgtest"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/testrig/sdks"
)

func main() {
	install := map[string]func(context.Context, io.Writer) (string, error){
		"stack": ministack.Install, "sdks": sdks.Install, "envoy": envoytest.Install,
		"postgres": pgtest.Install, "postgres13": pgtest.InstallOldest, "pgbouncer": pgtest.InstallPooler,
		"valkey": func(ctx context.Context, w io.Writer) (string, error) {
			return redistest.Install(ctx, redistest.Valkey, w)
		},
		"redis": func(ctx context.Context, w io.Writer) (string, error) {
			return redistest.Install(ctx, redistest.Redis, w)
		},
	}
	if len(os.Args) < 2 {
		usage()
	}
	for _, what := range os.Args[1:] {
		if install[what] == nil {
			usage()
		}
		where, err := install[what](context.Background(), os.Stderr)
		if err != nil {
			fmt.Fprintf(os.Stderr, "fetch: %s: %v\n", what, err)
			os.Exit(1)
		}
		fmt.Println(where)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: fetch (stack | sdks | envoy | valkey | redis | postgres | postgres13 | pgbouncer)...")
	os.Exit(2)
}
