// Package bootstrap has the code of the Lambda function that counts usage, as
// make build puts it into the program zael.
package bootstrap

import (
	"embed"
	"errors"
	"fmt"
)

//go:embed zips
var zips embed.FS

// ErrMissing is matched by the error of Zip in a program that was built without
// the function's code, as by go install.
var ErrMissing = errors.New("this zael was built without the code of the Lambda function: " +
	"build it with make build in a checkout of its source, or deploy without the aggregator")

// Zip is the code for an architecture, arm64 or x86_64 (or amd64, as Go calls it):
// at most 8 MB, with one file named bootstrap.
func Zip(arch string) ([]byte, error) {
	name := map[string]string{"arm64": "arm64", "x86_64": "amd64", "amd64": "amd64"}[arch]
	if name == "" {
		return nil, fmt.Errorf("%q is not an architecture of Lambda: use arm64 or x86_64", arch)
	}
	data, err := zips.ReadFile("zips/" + name + ".zip")
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", ErrMissing, name)
	}
	return data, nil
}
