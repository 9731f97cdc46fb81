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
	"github.com/zeroae/zael/internal/enginecall"
)

// passing are the first words of errors of a server that cannot write just now.
//
//nolint:gochecknoglobals // a constant table
var passing = []string{"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "OOM", "NOREPLICAS", "MISCONF", "UNBLOCKED", "MOVED", "ASK"}

// fateOf returns the fate of a call by its error.
func fateOf(err error) enginecall.Fate {
	if e, ok := errors.AsType[*rueidis.RedisError](err); ok {
		word, _, _ := strings.Cut(e.Error(), " ")
		if slices.Contains(passing, word) || strings.Contains(e.Error(), "max number of clients reached") {
			return enginecall.NotApplied
		}
		return enginecall.Rejected
	}
	if _, ok := errors.AsType[*dialError](err); ok {
		return dialFate(err)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return enginecall.NotApplied
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return enginecall.NotApplied
	}
	if errors.Is(err, errDamaged) || errors.Is(err, errUnsuitable) || rueidis.IsParseErr(err) {
		return enginecall.Rejected
	}
	return enginecall.Unknown
}

// dialFate returns the fate of a call that had no connection: again may help, unless the server
// cannot be trusted, or does not trust us.
func dialFate(err error) enginecall.Fate {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return enginecall.Rejected
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return enginecall.Rejected
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert of TLS
		return enginecall.Rejected
	}
	return enginecall.NotApplied
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
	}
	e := &enginecall.Error{Doing: "redisstore: " + what, Cause: err, Text: textOf(err)}
	if fateOf(err) != enginecall.Rejected {
		e.Kind = zael.ErrUnavailable
	}
	return e
}

// textOf returns what the error of a call says.
func textOf(err error) string {
	switch e, ok := errors.AsType[*rueidis.RedisError](err); {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case ok && strings.HasPrefix(e.Error(), "NOAUTH"):
		return "the server wants a password: set REDISCLI_AUTH, or name another variable by password_env in the store's URL"
	}
	return err.Error()
}
