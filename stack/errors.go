package stack

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
)

// Errors to branch on with errors.Is.
var (
	// ErrNoStack says that there is no stack of the name.
	ErrNoStack = errors.New("stack: there is no such stack")
	// ErrIncompatibleSchema says that the table is laid out for programs of another
	// major version of the schema. The error names both.
	ErrIncompatibleSchema = errors.New("stack: incompatible schema")
)

// An Error says what CloudFormation refused, or began and did not finish.
type Error struct {
	Op     string  // "create", "update" or "delete"
	Stack  string  // its name
	Reason string  // that of the resource which failed first, where there is one, and the remedy where it is known
	Events []Event // of the operation: those of failing resources first, each kind in order
	Cause  error   // the SDK's error, if there is one
}

// Error returns the operation, the stack and the reason.
func (e *Error) Error() string {
	s := fmt.Sprintf("stack: could not %s %s: %s", e.Op, e.Stack, e.Reason)
	if e.Cause != nil {
		s = strings.TrimSuffix(s, ": ") + ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// A WaitError says that waiting for CloudFormation came to an end before it was done:
// the context did, or AWS did not answer. What was begun goes on.
type WaitError struct {
	Stack  string
	Status string // the last one seen; empty: none was seen yet
	Cause  error
}

// Error returns the stack and the cause.
func (e *WaitError) Error() string {
	s := "stack: waiting for " + e.Stack
	if e.Status != "" {
		s += ", which is " + e.Status
	}
	return s + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *WaitError) Unwrap() error { return e.Cause }

// A VersionError says that this program, the aggregator and the table are not of
// versions that go together.
type VersionError struct {
	Client    string // of this program
	Lambda    string // of the aggregator
	ClientMin string // the least that the table is for
	Reason    string // what does not go together, and the remedy
	Cause     error  // why an update of the aggregator failed; nil if none was tried
}

// Error returns the reason.
func (e *VersionError) Error() string {
	s := "stack: " + e.Reason
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *VersionError) Unwrap() error { return e.Cause }

// hasCode reports whether AWS answered with one of these codes.
func hasCode(err error, codes ...string) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if e.ErrorCode() == c {
			return true
		}
	}
	return false
}

// errorContains reports whether AWS answered with a validation error whose message has
// this text: CloudFormation has no other code for many things.
func errorContains(err error, text string) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && e.ErrorCode() == "ValidationError" && strings.Contains(e.ErrorMessage(), text)
}

// isGone reports whether AWS answered that there is no such stack.
func isGone(err error) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return errorContains(err, "does not exist") && ok && strings.HasPrefix(e.ErrorMessage(), "Stack")
}

// isDenied reports whether the caller lacks the permission.
func isDenied(err error) bool {
	return hasCode(err, "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess", "AuthorizationError")
}
