// Command zael limits rates from the command line; zael help lists what it
// does.
package main

import (
	"context"
	"os"

	"github.com/zeroae/zael/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(cli.UntilSignal(context.Background()), os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
