package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
)

// A fate is what an error tells of the fate of its call.
type fate uint8

const (
	rejected     fate = iota // the server understood and refused: again would be no use
	surelyNot                // surely not applied, and may work again
	mayBeApplied             // may have been applied
)

// passing are the first words of errors of a server that cannot write just now.
//
//nolint:gochecknoglobals // a constant table
var passing = []string{"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "OOM", "NOREPLICAS", "MISCONF", "UNBLOCKED", "MOVED", "ASK"}

// fateOf returns the fate of a call by its error.
func fateOf(err error) fate {
	if e, ok := errors.AsType[*rueidis.RedisError](err); ok {
		word, _, _ := strings.Cut(e.Error(), " ")
		if slices.Contains(passing, word) || strings.Contains(e.Error(), "max number of clients reached") {
			return surelyNot
		}
		return rejected
	}
	if _, ok := errors.AsType[*dialError](err); ok {
		return dialFate(err)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return surelyNot
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return surelyNot
	}
	if errors.Is(err, errDamaged) || errors.Is(err, errUnsuitable) || rueidis.IsParseErr(err) {
		return rejected
	}
	return mayBeApplied
}

// dialFate returns the fate of a call that had no connection: again may help, unless the server
// cannot be trusted, or does not trust us.
func dialFate(err error) fate {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return rejected
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return rejected
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert of TLS
		return rejected
	}
	return surelyNot
}

// translate puts an error of the client into zael's words: that of ctx, if it is done;
// unavailable for timeouts, the network and a server that cannot write just now; and any
// other (access denied, a wrong password, a bug) as it is.
func (s *Store) translate(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("redisstore: %s: %w", what, ctx.Err())
	case fateOf(err) != rejected:
		return &callError{what: what, kind: zael.ErrUnavailable, cause: err}
	}
	return &callError{what: what, cause: err}
}

// A callError is the error of a call.
type callError struct {
	what  string // was tried
	kind  error  // nil: none of ours
	cause error
}

func (e *callError) Error() string {
	text := e.cause.Error()
	switch e2, ok := errors.AsType[*rueidis.RedisError](e.cause); {
	case errors.Is(e.cause, context.DeadlineExceeded):
		text = "no answer in time"
	case ok && strings.HasPrefix(e2.Error(), "NOAUTH"):
		text = "the server wants a password: set REDISCLI_AUTH, or name another variable by password_env in the store's URL"
	}
	return "redisstore: " + e.what + ": " + text
}

func (e *callError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.cause}
	}
	return []error{e.kind, e.cause}
}
