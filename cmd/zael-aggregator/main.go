// Command zael-aggregator is the bootstrap of the Lambda function that counts
// usage; see package aggregator for its environment.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/zeroae/zael/internal/usage/aggregator"
)

func main() {
	function, err := aggregator.New(os.Getenv, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "zael-aggregator:", err)
		os.Exit(1)
	}
	lambda.Start(function.Handle)
}
