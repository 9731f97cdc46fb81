// Package bootstrap holds the code of the Lambda function that counts usage, as
// make build and releases put it into the program zael.
package bootstrap

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

//go:embed zips
var zips embed.FS

// ErrMissing is matched by the error of [Zip] in a program that was built without
// the function's code, as go install does.
var ErrMissing = errors.New("this zael was built without the code of the Lambda function: " +
	"use a released program, build it with make build in a checkout of its source, or deploy without the aggregator")

// Zip returns the code for an architecture, arm64 or x86_64 (or amd64, as Go calls
// it): at most 8 MB, with one file named bootstrap.
func Zip(arch string) ([]byte, error) {
	path := zipPath(arch)
	if path == "" {
		return nil, fmt.Errorf("%q is not an architecture of Lambda: use arm64 or x86_64", arch)
	}
	data, err := zips.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", ErrMissing, arch)
	}
	return data, nil
}

// Architectures returns those whose code this program has, in Lambda's words.
func Architectures() []string {
	found := []string{}
	for _, arch := range []string{"arm64", "x86_64"} {
		if _, err := fs.Stat(zips, zipPath(arch)); err == nil {
			found = append(found, arch)
		}
	}
	return found
}

// zipPath returns where the code for an architecture is embedded, or "" if Lambda
// does not know the architecture.
func zipPath(arch string) string {
	switch arch {
	case "arm64":
		return "zips/arm64.zip"
	case "x86_64", "amd64":
		return "zips/amd64.zip"
	}
	return ""
}
