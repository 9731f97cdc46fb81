//go:build !unix || aix || solaris

package wheels

import "context"

// lock does nothing: what is installed here runs on no such system.
func lock(context.Context, string) (unlock func(), err error) { return func() {}, nil }
