// Command zael limits rates from the command line; zael help lists what it
// does.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/zeroae/zael/cmd/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), cli.Signals()...)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(cli.Main(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
