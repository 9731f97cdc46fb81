// Package limitsfile reads a file of entities and limits, compares it with a store, and
// changes the store accordingly.
//
// The file is YAML. It affects what it names and nothing else:
//
//	system:
//	  limits: [rpm=1000/min]
//	resources:
//	  gpt-4:
//	    limits: [rpm=100/min, tpm=10000/min burst 20000]
//	    switch: disabled                # or enabled, bypass, inherit
//	    failure_mode: open              # or closed, inherit
//	namespaces: [team-a]                # are registered
//	entities:
//	  project-1:
//	    name: Project one
//	    metadata: {team: search}
//	    limits: [rpm=500/min]          # for resources without limits of their own
//	  key-1:
//	    parent: project-1
//	    cascade: true
//	    resources:
//	      gpt-4:
//	        limits: []                 # stored ones are deleted
//
// Missing entities are created. The limits of a scope are replaced as a whole; a scope
// without the key limits keeps those that it has.
package limitsfile

import (
	"errors"
	"fmt"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/yamlfile"
)

// A File has the contents of a file, in its order.
type File struct {
	Entities   []Entity
	Sets       []Set
	Settings   []Setting
	Namespaces []Namespace
}

// A Setting is the switch or the failure mode that a scope should have.
type Setting struct {
	Scope       zael.Scope
	Switch      *zael.Switch      // nil: it is about the failure mode
	FailureMode *zael.FailureMode // nil: it is about the switch
	Line        int               // from 1
}

// String returns the setting as the file has it.
func (s *Setting) String() string {
	if s.Switch != nil {
		return s.Switch.String()
	}
	return s.FailureMode.String()
}

// A Namespace should be registered.
type Namespace struct {
	Name string
	Line int // from 1
}

// An Entity is an entity that should exist. Fields that are nil are not in the file, and
// may have any value.
type Entity struct {
	ID           string
	Name, Parent *string
	Cascade      *bool
	Metadata     map[string]string
	Line         int // from 1
}

// entity returns the entity to create.
func (e *Entity) entity() zael.Entity {
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

// A Set has the limits that a scope should have.
type Set struct {
	Scope  zael.Scope
	Limits []zael.Limit // may be empty
	Line   int          // from 1
}

// An Error is about a line of the file.
type Error = yamlfile.Error

// invalid returns an *Error for a *zael.ValidationError, with the file's keys instead of
// the API's fields.
func invalid(line int, what string, err error) error {
	var v *zael.ValidationError
	if !errors.As(err, &v) {
		return &Error{Line: line, Reason: what + ": " + err.Error(), Cause: err}
	}
	key := map[string]string{
		"Entity.Name": "name ", "Entity.ParentID": "parent ", "Entity.Metadata": "metadata ",
		"Scope.Resource": "resource ", "Scope.Entity": "entity ", "namespace": "",
	}[v.Field]
	value := fmt.Sprint(v.Value)
	if s, ok := v.Value.(string); ok {
		value = fmt.Sprintf("%q", s)
	}
	return &Error{Line: line, Reason: what + ": " + key + value + " " + v.Reason, Cause: err}
}
