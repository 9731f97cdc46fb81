package api

import (
	"net/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/strictjson"
)

// maxChanges is how many changes may be made at once.
const maxChanges = 10_000

// A changesBody is what came of changes.
type changesBody struct {
	Made      int            `json:"made"`
	Overrides []overrideBody `json:"overrides"` // stored limits that no longer bind
}

// changes serves POST /v1/changes: all are made in one step, or none, where the store can.
func (c *call) changes() error {
	dry, err := c.query.bool("dry_run")
	if err != nil {
		return err
	}
	replace, err := c.query.bool("replace")
	if err != nil {
		return err
	}
	var changes []zael.Change
	err = c.object(func(r *strictjson.Reader, name string) error {
		if name != "changes" {
			return unknownMember()
		}
		return r.Array(func() error {
			if len(changes) == maxChanges {
				return strictjson.Invalid("is one too many: send at most 10000 at once")
			}
			change, err := readChange(r)
			changes = append(changes, change)
			return err
		})
	})
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return invalid("changes", "is missing or empty: name a change")
	}
	for i := range changes {
		if e := changes[i].Create; e != nil {
			err = c.mayCreate(e)
		} else {
			err = c.mayChange(changes[i].Scope)
		}
		if err != nil {
			return err
		}
	}
	overrides, err := c.overridden(changes, replace || dry)
	if err != nil {
		return err
	}
	out := changesBody{Overrides: overridesOf(overrides)}
	if !dry {
		if out.Made, err = c.limiter.Apply(c.ctx, changes); err != nil {
			return err
		}
	}
	return c.answer(http.StatusOK, out)
}

// readChange reads a change: an entity to create, or limits, a switch or a failure mode of a
// scope.
func readChange(r *strictjson.Reader) (zael.Change, error) {
	var c zael.Change
	scoped, system := false, false
	err := r.Object(func(name []byte) error {
		switch string(name) {
		case "create":
			c.Create = new(zael.Entity)
			return r.Object(func(name []byte) error { return readEntity(r, string(name), c.Create) })
		case "entity":
			scoped = true
			return readScopeName(r, &c.Scope.Entity)
		case "resource":
			scoped = true
			return readScopeName(r, &c.Scope.Resource)
		case "system":
			return readInto(&system, r.Bool)
		case "limits":
			return readLimits(r, &c.Limits)
		case "delete":
			return readInto(&c.Delete, r.Bool)
		case "switch":
			c.Switch = new(zael.Switch)
			return readSwitch(r, c.Switch)
		case "failure_mode":
			c.FailureMode = new(zael.FailureMode)
			return readFailureMode(r, c.FailureMode)
		}
		return unknownMember()
	})
	switch {
	case err != nil:
		return c, err
	case system && scoped:
		return c, strictjson.Invalid("is of the system, and names an entity or a resource")
	case c.Create == nil && !system && !scoped: // a forgotten entity must not change the limits of all
		return c, strictjson.Invalid("names no scope: name entity, resource or both, or send system: true")
	}
	return c, nil
}

// readScopeName reads a name of a scope, which is not empty.
func readScopeName(r *strictjson.Reader, to *string) error {
	s, err := r.String()
	if err == nil && s == "" {
		return strictjson.Invalid("is empty: leave it out, or name one")
	}
	*to = s
	return err
}
