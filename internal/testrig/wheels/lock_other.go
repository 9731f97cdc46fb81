//go:build !unix || aix || solaris

package wheels

import "context"

// Lock does nothing: what is installed here runs on no such system.
func Lock(context.Context, string) (unlock func(), err error) { return func() {}, nil }
