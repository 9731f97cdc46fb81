package api

import (
	"net/http"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/limitsfile"
	"github.com/zeroae/zael/internal/strictjson"
)

// scope returns the scope that the path and the query name.
func (c *call) scope() (zael.Scope, error) {
	path := c.r.URL.EscapedPath()
	switch {
	case strings.HasPrefix(path, "/v1/entities/"):
		scope := zael.Scope{Entity: c.name, Resource: c.query.get("resource")}
		return scope, checkName("id", scope.Entity)
	case strings.HasPrefix(path, "/v1/resources/"):
		scope := zael.Scope{Resource: c.name}
		return scope, checkName("name", scope.Resource)
	}
	return zael.Scope{}, nil
}

// checkName returns an error for a name that would mean everything.
func checkName(field, name string) error {
	if name == "" {
		return invalid(field, "is empty: name one")
	}
	return nil
}

// readableScope returns the scope that is asked for, if the principal may read it.
func (c *call) readableScope() (zael.Scope, error) {
	scope, err := c.scope()
	switch {
	case err != nil:
		return scope, err
	case scope.Entity != "" && !c.principal.MayRead(scope.Entity), scope.Entity == "" && !c.principal.MayReadAll():
		return scope, c.forbid("read what is stored for " + scopeText(scope))
	}
	return scope, nil
}

// changeableScope returns the scope that is to be changed, if the principal may change it.
func (c *call) changeableScope() (zael.Scope, error) {
	scope, err := c.scope()
	if err != nil {
		return scope, err
	}
	return scope, c.mayChange(scope)
}

func (c *call) mayChange(scope zael.Scope) error {
	if scope.Entity != "" && !c.principal.MayChange(scope.Entity) || scope.Entity == "" && !c.principal.MayChangeAll() {
		return c.forbid("change what is stored for " + scopeText(scope))
	}
	return nil
}

// scopeText returns a scope as messages name it.
func scopeText(s zael.Scope) string {
	if s == (zael.Scope{}) {
		return "the system"
	}
	return s.String()
}

// A limitsBody is the limits that are stored for a scope.
type limitsBody struct {
	Entity    string         `json:"entity_id,omitempty"`
	Resource  string         `json:"resource,omitempty"`
	Limits    []zael.Limit   `json:"limits"`
	Overrides []overrideBody `json:"overrides,omitempty"` // of a change
}

// A scopeBody is a scope: the system if it is empty.
type scopeBody struct {
	Entity   string `json:"entity_id,omitempty"`
	Resource string `json:"resource,omitempty"`
}

// An overrideBody is a stored limit that no longer binds.
type overrideBody struct {
	By    scopeBody  `json:"by"`    // the scope whose limits hide it
	Scope scopeBody  `json:"scope"` // of the limit
	Limit zael.Limit `json:"limit"`
}

func overridesOf(overrides []zael.Override) []overrideBody {
	bodies := make([]overrideBody, len(overrides))
	for i, o := range overrides {
		bodies[i] = overrideBody{scopeBody(o.By), scopeBody(o.Scope), o.Limit}
	}
	return bodies
}

// limits serves GET of the limits of a scope.
func (c *call) limits() error {
	scope, err := c.readableScope()
	if err != nil {
		return err
	}
	limits, err := c.limiter.Limits(c.ctx, scope)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, limitsBody{Entity: scope.Entity, Resource: scope.Resource, Limits: append([]zael.Limit{}, limits...)})
}

// setLimits serves PUT of the limits of a scope. Unlimited alone does not take the place of
// other limits unless replace=true says so.
func (c *call) setLimits() error {
	scope, err := c.changeableScope()
	if err != nil {
		return err
	}
	replace, err := c.query.bool("replace")
	if err != nil {
		return err
	}
	var limits []zael.Limit
	err = c.object(func(r *strictjson.Reader, name string) error {
		if name != "limits" {
			return unknownMember()
		}
		return readLimits(r, &limits)
	})
	if err != nil {
		return err
	}
	if len(limits) == 0 {
		return invalid("limits", "names no limit: name one, or DELETE them")
	}
	overrides, err := c.overridden([]zael.Change{{Scope: scope, Limits: limits}}, replace)
	if err != nil {
		return err
	}
	if err := c.limiter.SetLimits(c.ctx, scope, limits); err != nil {
		return err
	}
	return c.answer(http.StatusOK, limitsBody{scope.Entity, scope.Resource, limits, overridesOf(overrides)})
}

// overridden returns the limits that do not bind any more when changes are made. Unless
// replace says so, none may be lost to unlimited alone.
func (c *call) overridden(changes []zael.Change, replace bool) ([]zael.Override, error) {
	overrides, err := c.limiter.Overridden(c.ctx, changes)
	if err != nil || replace {
		return overrides, err
	}
	for i := range changes {
		set := changes[i].Limits
		if len(set) == 0 {
			continue
		}
		before, err := c.limiter.Limits(c.ctx, changes[i].Scope)
		if err != nil {
			return nil, err
		}
		if lost := limitsfile.LostTo(changes[i].Scope, set, before, overrides); lost != "" {
			return nil, invalid("limits", "would be "+strings.Replace(lost, "--replace", "replace=true", 1))
		}
	}
	return overrides, nil
}

// deleteLimits serves DELETE of the limits of a scope.
func (c *call) deleteLimits() error {
	scope, err := c.changeableScope()
	if err != nil {
		return err
	}
	if err := c.limiter.DeleteLimits(c.ctx, scope); err != nil {
		return err
	}
	return c.noContent()
}

// A settingsBody is what is stored for a scope beside limits.
type settingsBody struct {
	Entity      string `json:"entity_id,omitempty"`
	Resource    string `json:"resource,omitempty"`
	Switch      string `json:"switch"`       // enabled, disabled, bypass or inherit
	FailureMode string `json:"failure_mode"` // closed, open or inherit
}

// settings serves GET of the settings of a scope.
func (c *call) settings() error {
	scope, err := c.readableScope()
	if err != nil {
		return err
	}
	return c.answerSettings(scope)
}

func (c *call) answerSettings(scope zael.Scope) error {
	s, err := c.limiter.Settings(c.ctx, scope)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, settingsBody{scope.Entity, scope.Resource, s.Switch.String(), s.FailureMode.String()})
}

// setSwitch serves PUT of the switch of a scope.
func (c *call) setSwitch() error {
	var s *zael.Switch
	return c.changeSettings(func(r *strictjson.Reader, name string) error {
		if name != "switch" {
			return unknownMember()
		}
		s = new(zael.Switch)
		return readSwitch(r, s)
	}, func(scope zael.Scope, options zael.AdminOptions) error {
		if s == nil {
			return invalid("switch", "is missing: send enabled, disabled, bypass or inherit")
		}
		return c.limiter.SetSwitch(c.ctx, scope, *s, options)
	})
}

// readSwitch reads the name of a switch.
func readSwitch(r *strictjson.Reader, to *zael.Switch) error {
	text, err := r.String()
	if err != nil {
		return err
	}
	if *to, err = zael.ParseSwitch(text); err != nil {
		return strictjson.Invalid(reasonOf(err))
	}
	return nil
}

// setFailureMode serves PUT of the failure mode of a scope.
func (c *call) setFailureMode() error {
	var mode *zael.FailureMode
	return c.changeSettings(func(r *strictjson.Reader, name string) error {
		if name != "failure_mode" {
			return unknownMember()
		}
		mode = new(zael.FailureMode)
		return readFailureMode(r, mode)
	}, func(scope zael.Scope, options zael.AdminOptions) error {
		if mode == nil {
			return invalid("failure_mode", "is missing: send closed, open or inherit")
		}
		return c.limiter.SetFailureMode(c.ctx, scope, *mode, options)
	})
}

// changeSettings changes the settings of a scope, and answers with them.
func (c *call) changeSettings(member func(*strictjson.Reader, string) error, change func(zael.Scope, zael.AdminOptions) error) error {
	scope, err := c.changeableScope()
	if err != nil {
		return err
	}
	options, err := c.options()
	if err != nil {
		return err
	}
	if err := c.object(member); err != nil {
		return err
	}
	if err := change(scope, options); err != nil {
		return err
	}
	return c.answerSettings(scope)
}
