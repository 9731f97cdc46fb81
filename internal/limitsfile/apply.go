package limitsfile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/yamlfile"
)

// A Writer changes what is stored; a *zael.Limiter is one.
type Writer interface {
	Apply(ctx context.Context, changes []zael.Change) (made int, err error)
	RegisterNamespace(ctx context.Context, name string) error
}

// Apply makes the changes of a plan, in its order, and returns those that it made. Where
// the store can, all or none are made. Otherwise, if one fails, those before it are
// made, and a new plan has the rest. Namespaces are registered first, each in a step of its
// own.
func Apply(ctx context.Context, store Writer, p *Plan) ([]Change, error) {
	registered := 0 // which come first
	for ; registered < len(p.Changes) && p.Changes[registered].Namespace != ""; registered++ {
		if err := store.RegisterNamespace(ctx, p.Changes[registered].Namespace); err != nil {
			return p.Changes[:registered], err
		}
	}
	made, err := store.Apply(ctx, p.changes(registered))
	return p.Changes[:registered+made], err
}

// changes returns the changes from number first on, none of which is of a namespace.
func (p *Plan) changes(first int) []zael.Change {
	changes := make([]zael.Change, len(p.Changes)-first)
	for i, c := range p.Changes[first:] {
		switch s := c.Setting; {
		case s != nil:
			changes[i] = zael.Change{Scope: s.Scope, Switch: s.Switch, FailureMode: s.FailureMode}
		case c.Entity != nil:
			changes[i].Create = c.Entity
		case c.Action == Delete:
			changes[i] = zael.Change{Scope: c.Scope, Delete: true}
		default:
			changes[i] = zael.Change{Scope: c.Scope, Limits: c.After}
		}
	}
	return changes
}

// An Overrider knows what limits hide; a *zael.Limiter is one.
type Overrider interface {
	Overridden(ctx context.Context, changes []zael.Change) ([]zael.Override, error)
}

// Overridden returns the stored limits that do not bind any more when a plan is applied.
func Overridden(ctx context.Context, store Overrider, p *Plan) ([]zael.Override, error) {
	var sets []zael.Change
	for _, c := range p.Changes {
		if c.Entity == nil && c.Setting == nil && c.Namespace == "" {
			sets = append(sets, zael.Change{Scope: c.Scope, Limits: c.After, Delete: c.Action == Delete})
		}
	}
	return store.Overridden(ctx, sets)
}

// Lifted returns an *Error for each set of the file that is unlimited alone, where other
// limits held: those of the scope, or those that it hides. Levels stand alone, so such a
// set lifts the other limits too, which is hardly meant.
func Lifted(f *File, p *Plan, overrides []zael.Override) error {
	var errs []error
	for _, c := range p.Changes {
		if c.Action == Delete || c.Entity != nil || c.Setting != nil || c.Namespace != "" {
			continue
		}
		if lost := LostTo(c.Scope, c.After, c.Before, overrides); lost != "" {
			line := 0
			if i := slices.IndexFunc(f.Sets, func(s Set) bool { return s.Scope == c.Scope }); i >= 0 {
				line = f.Sets[i].Line
			}
			errs = append(errs, yamlfile.Errorf(line, "limits of %s: %s", c.Scope, lost))
		}
	}
	return errors.Join(errs...)
}

// LostTo says which limits are lost if a set that is unlimited alone is stored for a scope
// that had others before, or hides others; "" if none are.
func LostTo(scope zael.Scope, set, before []zael.Limit, overrides []zael.Override) string {
	for _, l := range set {
		if l.Kind() != zael.KindUnlimited {
			return ""
		}
	}
	var lost []string
	for _, l := range before {
		if !slices.ContainsFunc(set, func(other zael.Limit) bool { return other.Name == l.Name }) {
			lost = append(lost, l.String())
		}
	}
	for _, o := range overrides {
		if o.By == scope {
			lost = append(lost, fmt.Sprintf("%s of %s", o.Limit, o.Scope))
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return fmt.Sprintf("unlimited alone lifts %s too: repeat what is to stay, or lift all with --replace", strings.Join(lost, ", "))
}
