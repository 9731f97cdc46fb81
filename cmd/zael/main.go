// Command zael limits rates from the command line; zael help lists what it
// does.
package main

import (
	"context"
	"os"

	"github.com/zeroae/zael/cmd/internal/cli"
)

func main() {
	ctx := cli.UntilSignal(context.Background())
	if cli.StandsIn(os.Args[0]) {
		os.Exit(cli.RateLimit(ctx, os.Environ(), os.Stderr))
	}
	os.Exit(cli.Main(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
