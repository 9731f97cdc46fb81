package postgresstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/enginecall"
)

var errClosed = fmt.Errorf("postgresstore: the store is closed: %w", zael.ErrClosed)

// parseReason returns why an address cannot be read, without the address: it may have a
// password.
func parseReason(err error) string {
	if e, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		if inner := e.Unwrap(); inner != nil {
			err = inner
		}
	}
	text := err.Error()
	if strings.Contains(text, "://") {
		return "it is no URL or list of keywords of PostgreSQL: write it like postgres://user@host:5432/database"
	}
	return text
}

// reasonOf returns the reason of a *zael.ValidationError.
func reasonOf(err error) string {
	if v, ok := errors.AsType[*zael.ValidationError](err); ok {
		return v.Field + " " + v.Reason
	}
	return err.Error()
}

// Conditions of PostgreSQL, by which errors are told apart: see "PostgreSQL Error Codes".
const (
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeReadOnly      = "25006"
	codeLockTimeout   = "55P03"
	codeCanceled      = "57014"
	codeNoRight       = "42501"
	codeNoTable       = "42P01"
	codeNoFunction    = "42883"
	codeNoSchema      = "3F000"
	codeNoDatabase    = "3D000"
)

// unavailableClasses are the classes of conditions in which the server fails by itself:
// connections, resources, intervention of an operator, system errors, internal errors.
const unavailableClasses = "08 53 57 58 XX"

// fateOf returns the fate of a call by its error.
func fateOf(err error) enginecall.Fate {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case e.Code == codeSerialization || e.Code == codeDeadlock:
			return enginecall.Overtaken
		case e.Code == codeReadOnly || e.Code == codeLockTimeout || e.Code == codeCanceled:
			return enginecall.NotApplied
		case !connecting && endsConnection(e):
			return enginecall.Unknown
		case strings.Contains(unavailableClasses, e.Code[:min(2, len(e.Code))]):
			return enginecall.NotApplied
		}
		return enginecall.Rejected
	}
	if connecting {
		if tlsError(err) {
			return enginecall.Rejected
		}
		return enginecall.NotApplied
	}
	if pgconn.SafeToRetry(err) {
		return enginecall.NotApplied
	}
	if errors.Is(err, errDamaged) || errors.Is(err, ErrNoTables) {
		return enginecall.Rejected
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return enginecall.Unknown
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return enginecall.Unknown
	}
	if strings.Contains(err.Error(), "conn closed") {
		return enginecall.Unknown
	}
	return enginecall.Rejected
}

// endsConnection reports whether an error is one of the connection and not of what was sent, which
// may have been made: the server ends, perhaps after the commit, or a pooler has lost it.
func endsConnection(e *pgconn.PgError) bool {
	severity := cmp.Or(e.SeverityUnlocalized, e.Severity)
	return severity == "FATAL" || severity == "PANIC" || strings.HasPrefix(e.Code, "08")
}

// tlsError reports whether a connection failed as the certificate of a side is refused, or the
// server has no TLS: in each of its attempts, if there were several.
func tlsError(err error) bool {
	if e, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = e.Unwrap()
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(several.Unwrap(), func(err error) bool { return !tlsError(err) })
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	return strings.Contains(err.Error(), "server refused TLS connection")
}

// leaveStandby drops the connections, if err says that the server takes no writes: after a failover
// the same name, or another host of the URL, may lead to one that does.
func (s *Store) leaveStandby(err error) {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == codeReadOnly {
		s.pool.Reset()
	}
}

// isLockTimeout reports whether somebody else has locked a bucket for too long.
func isLockTimeout(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == codeLockTimeout
}

// isDone reports whether err is the end of a context.
func isDone(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// translate returns the error of a call as the Store's methods return it.
func (s *Store) translate(ctx context.Context, what string, err error) error {
	if err == nil || isAnswer(err) || errors.Is(err, ErrNoTables) {
		return err
	}
	if s.queue.isClosed() && (s.life.Err() != nil || strings.Contains(err.Error(), "closed pool")) {
		return errClosed
	}
	if ctx.Err() != nil {
		return contextError(ctx, what)
	}
	s.leaveStandby(err)
	what = "postgresstore: " + what
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case codeNoTable, codeNoFunction, codeNoSchema:
			return s.noTables()
		case codeNoRight:
			return fmt.Errorf("%s: %w: grant %s (and %s for administration, %s for reading alone) to the user, or run \"zael table create\" as the owner of schema %s",
				what, err, RoleAcquire, RoleAdmin, RoleRead, s.config.Schema)
		case codeNoDatabase:
			return fmt.Errorf("%s: %w: create it, or name another one", what, err)
		case codeReadOnly:
			return fmt.Errorf("%s: %w: %s is read-only (a standby?): name the primary: %w", what, err, s.where, zael.ErrUnavailable)
		}
	}
	switch fateOf(err) {
	case enginecall.Rejected:
		return fmt.Errorf("%s: %w", what, err)
	case enginecall.Overtaken:
		return fmt.Errorf("%s: %w: %w", what, err, zael.ErrContention)
	}
	return fmt.Errorf("%s: %w: %w", what, hideContext(err), zael.ErrUnavailable)
}

// hideContext returns err so that it does not match the error of a context: that of an attempt
// is not that of the caller.
func hideContext(err error) error {
	if isDone(err) {
		return errors.New("the server did not answer in time: " + err.Error())
	}
	return err
}

func (s *Store) noTables() error {
	return fmt.Errorf("postgresstore: schema %s of %s: %w in the version of this program: run \"zael table create\" with its address as a user that may, or open the store with migrate=true",
		s.config.Schema, s.where, ErrNoTables)
}

// contextError returns an error that matches the one of ctx, which is done.
func contextError(ctx context.Context, what string) error {
	return fmt.Errorf("postgresstore: %s: %w", what, ctx.Err())
}

// isAnswer reports whether err is what an operation answers, having changed nothing.
func isAnswer(err error) bool {
	for _, answer := range []error{zael.ErrExceeded, zael.ErrStaleLimits, zael.ErrStaleSettings, zael.ErrClosed} {
		if errors.Is(err, answer) {
			return true
		}
	}
	_, wrong := errors.AsType[*zael.ValidationError](err)
	return wrong || edits.IsAnswer(err)
}
