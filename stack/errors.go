package stack

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
)

// Errors to branch on with errors.Is.
var (
	// ErrNoStack: there is no stack of the name.
	ErrNoStack = errors.New("stack: there is no such stack")
	// ErrIncompatibleSchema: the table is laid out for programs of another
	// major version of the schema. The error says which.
	ErrIncompatibleSchema = errors.New("stack: incompatible schema")
)

// An Error is what CloudFormation would not do, or began and did not finish.
type Error struct {
	Op     string  // "create", "update" or "delete"
	Stack  string  // its name
	Reason string  // the first failing resource's where there is one, and what to do where that is known
	Events []Event // of the operation: those of failing resources first, each kind in order
	Cause  error   // of the library, if it is one of its errors
}

// Error names the operation, the stack and the reason.
func (e *Error) Error() string {
	s := fmt.Sprintf("stack: could not %s %s: %s", e.Op, e.Stack, e.Reason)
	if e.Cause != nil {
		s = strings.TrimSuffix(s, ": ") + ": " + e.Cause.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// A WaitError says that waiting for CloudFormation came to an end before it was done:
// the context did, or AWS did not answer. What was begun goes on.
type WaitError struct {
	Stack  string
	Status string // as it was last seen; empty: not seen yet
	Cause  error
}

// Error names the stack and the cause.
func (e *WaitError) Error() string {
	s := "stack: waiting for " + e.Stack
	if e.Status != "" {
		s += ", which is " + e.Status
	}
	return s + ": " + e.Cause.Error()
}

// Unwrap gives the cause.
func (e *WaitError) Unwrap() error { return e.Cause }

// A VersionError says that this program, the aggregator and the table are not of
// versions that go together.
type VersionError struct {
	Client    string // of this program
	Lambda    string // of the aggregator
	ClientMin string // the least that the table is for
	Reason    string // what does not go together, and what to do
	Cause     error  // why an update that would have helped failed; nil if none was tried
}

// Error names the reason.
func (e *VersionError) Error() string {
	s := "stack: " + e.Reason
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *VersionError) Unwrap() error { return e.Cause }

// isCode tells whether AWS answered with one of these codes.
func isCode(err error, codes ...string) bool {
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

// says tells whether AWS answered with a validation error of this text:
// CloudFormation has no other code for many things.
func says(err error, text string) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && e.ErrorCode() == "ValidationError" && strings.Contains(e.ErrorMessage(), text)
}

// vanished tells whether AWS answered that there is no such stack.
func vanished(err error) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return says(err, "does not exist") && ok && strings.HasPrefix(e.ErrorMessage(), "Stack")
}

// denied tells whether the caller may not do it.
func denied(err error) bool {
	return isCode(err, "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess", "AuthorizationError")
}
