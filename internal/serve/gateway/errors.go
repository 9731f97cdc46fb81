package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/llm"
)

// What ends a call.
var (
	errBackground = errors.New("calls in the background are not counted: list POST of the path in also to pass them")
	errForm       = errors.New("the model of a form is not read: set default_resource of the route to pass forms")
	errNoModel    = errors.New("the body is not JSON, or names no model")
	errBodies     = errors.New("the calls under way have too large bodies together: try again in a second")
	errStore      = errors.New("the limits cannot be looked at: try again in a second")
	errHeader     = errors.New("the upstream did not answer in time")
	errIdle       = errors.New("the upstream stopped in the middle of its answer")
	errUnread     = errors.New("the client did not read")
)

// An unknownModelError is a call of a model that the route does not have.
type unknownModelError struct{ model string }

func (e *unknownModelError) Error() string {
	return fmt.Sprintf("the gateway has no model %.100q", e.model)
}

// An unpricedError is a call of a model whose price is not known, where a limit counts money.
type unpricedError struct{ model string }

func (e *unpricedError) Error() string {
	return fmt.Sprintf("a limit counts money, and the model %.100q has no price: add it to prices", e.model)
}

// A limitNameError is a stored limit that cannot be counted.
type limitNameError struct{ resource, limit string }

func (e *limitNameError) Error() string {
	return "the stored limit " + e.limit + " on " + e.resource + " has a name that does not tell what it counts: use rpm, tpm, itpm, otpm, usd, inflight or one of their kin"
}

func tooLarge(c *config.Config) string {
	return fmt.Sprintf("the body has more than %d bytes (max.call)", c.Max.Call)
}

// failure returns how a call that fails is answered, by its error.
func failure(err error, c *config.Config) (outcome string, status int, message string) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return "failed", http.StatusRequestEntityTooLarge, tooLarge(c)
	}
	if e, ok := errors.AsType[*unknownModelError](err); ok {
		return "unknown_model", http.StatusNotFound, e.Error()
	}
	if e, ok := errors.AsType[*limitNameError](err); ok {
		return "failed", http.StatusForbidden, e.Error()
	}
	if e, ok := errors.AsType[*zael.ValidationError](err); ok {
		return "failed", http.StatusBadRequest, e.Error()
	}
	for _, known := range []error{serve.ErrDraining, serve.ErrTooManyWaits, errBodies, errStore} {
		if errors.Is(err, known) {
			return "unavailable", http.StatusServiceUnavailable, known.Error()
		}
	}
	switch call, isCall := errors.AsType[*llm.CallError](err); {
	case errors.Is(err, errHeader), errors.Is(err, errIdle):
		return "upstream_late", http.StatusGatewayTimeout, errHeader.Error()
	case errors.Is(err, access.ErrTokenRemoved):
		return "denied", http.StatusUnauthorized, "the token was removed"
	case errors.Is(err, zael.ErrUnavailable), errors.Is(err, zael.ErrContention), errors.Is(err, zael.ErrClosed):
		return "unavailable", http.StatusServiceUnavailable, errStore.Error()
	case errors.Is(err, zael.ErrNoLimits):
		return "failed", http.StatusForbidden, "no limits are stored for the caller and the model, which is not unlimited: somebody has to set them"
	case errors.Is(err, zael.ErrDisabled):
		return "denied", http.StatusForbidden, "a switch turns the call off"
	case isCall:
		return "failed", http.StatusBadRequest, call.Cause.Error()
	}
	return "upstream_failed", http.StatusBadGateway, "the upstream cannot be reached"
}

// fail answers a call that fails, unless its client has left.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	f := flightOf(ctx)
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		f.outcome = "left"
		return
	}
	switch {
	case cause == nil:
	case errors.Is(cause, errHeader), errors.Is(cause, errIdle), errors.Is(cause, errUnread), errors.Is(cause, access.ErrTokenRemoved):
		err = cause
	default: // the daemon is shutting down
		err = serve.ErrDraining
	}
	outcome, status, message := failure(err, f.config)
	f.outcome = outcome
	if status >= http.StatusInternalServerError {
		f.gateway.env.Log.WarnContext(ctx, "a call through the gateway failed", "route", f.route.Prefix, "resource", f.resource, "status", status, "error", err)
	}
	f.fail(w, r, status, message)
}

// fail answers a call in the form of the provider's errors.
func (f *flight) fail(w http.ResponseWriter, r *http.Request, status int, message string) {
	res := llm.Failure(r, f.form(), status, message)
	if status == http.StatusServiceUnavailable {
		res.Header.Set("Retry-After", "1")
	}
	if status == http.StatusTooManyRequests { // of wrong keys: Retry-After has been set
		res.Header.Del("X-Should-Retry")
	}
	respond(w, res)
}
