// Package limitsfile is entities and limits as a file says they should be: it
// reads the file, tells what differs from what is stored, and brings the store
// there.
//
// The file is YAML. It binds what it names and nothing else:
//
//	system:
//	  limits: [rpm=1000/min]
//	resources:
//	  gpt-4:
//	    limits: [rpm=100/min, tpm=10000/min burst 20000]
//	entities:
//	  project-1:
//	    name: Project one
//	    metadata: {team: search}
//	    limits: [rpm=500/min]          # for resources that it has none for
//	  key-1:
//	    parent: project-1
//	    cascade: true
//	    resources:
//	      gpt-4:
//	        limits: []                 # none are stored
//
// Entities that are missing are created. Limits of a scope are replaced as a
// whole; a scope without the key limits is left as it is.
package limitsfile

import (
	"errors"
	"fmt"

	"github.com/zeroae/zael"
)

// A File is what a file says, in its order.
type File struct {
	Entities []Entity
	Sets     []Set
}

// An Entity is an entity that should exist. What is nil the file leaves open.
type Entity struct {
	ID           string
	Name, Parent *string
	Cascade      *bool
	Metadata     map[string]string
	Line         int // from 1
}

// record is the entity as it is created.
func (e *Entity) record() zael.Entity {
	r := zael.Entity{ID: e.ID, Metadata: e.Metadata}
	if e.Name != nil {
		r.Name = *e.Name
	}
	if e.Parent != nil {
		r.ParentID = *e.Parent
	}
	if e.Cascade != nil {
		r.Cascade = *e.Cascade
	}
	return r
}

// A Set is the limits that a scope should have.
type Set struct {
	Scope  zael.Scope
	Limits []zael.Limit // none: nothing should be stored
	Line   int          // from 1
}

// An Error is about a line of the file.
type Error struct {
	Line   int // from 1; 0 if it is about the file as a whole
	Reason string
	cause  error
}

// Error has the line before the reason, as compilers write it behind the
// file's name: "7: unknown key".
func (e *Error) Error() string {
	if e.Line == 0 {
		return " " + e.Reason
	}
	return fmt.Sprintf("%d: %s", e.Line, e.Reason)
}

// Unwrap gives the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

func errorf(line int, format string, args ...any) error {
	return &Error{Line: line, Reason: fmt.Sprintf(format, args...)}
}

// invalid is a *zael.ValidationError in the words of the file.
func invalid(line int, what string, err error) error {
	var v *zael.ValidationError
	if !errors.As(err, &v) {
		return &Error{Line: line, Reason: what + ": " + err.Error(), cause: err}
	}
	key := map[string]string{
		"Entity.Name": "name ", "Entity.ParentID": "parent ", "Entity.Metadata": "metadata ",
		"Scope.Resource": "resource ",
	}[v.Field]
	value := fmt.Sprint(v.Value)
	if s, ok := v.Value.(string); ok {
		value = fmt.Sprintf("%q", s)
	}
	return &Error{Line: line, Reason: what + ": " + key + value + " " + v.Reason, cause: err}
}
