package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

// A requestFlags has the flags that describe a request.
type requestFlags struct {
	entity, resource     string
	limits, parentLimits *limitsValue
	consume              amountsValue
	stored, cascade      bool
}

// addRequest gives cmd the flags of a request.
func addRequest(cmd *cobra.Command, consume string) *requestFlags {
	var r requestFlags
	f := cmd.Flags()
	f.StringVarP(&r.entity, "entity", "e", "", "`ID` of the entity that is limited, such as a user, key or project")
	f.StringVarP(&r.resource, "resource", "r", "", "`NAME` of the resource that is limited, such as a model or an API")
	r.limits = addLimits(cmd)
	r.parentLimits = new(limitsValue)
	f.Var(r.parentLimits, "parent-limit", "a limit of the parent; may be repeated (default: those of --limit)")
	r.consume = addAmounts(cmd, consume)
	f.BoolVar(&r.stored, "stored", false, "use stored limits; --limit applies only if none are stored")
	f.BoolVar(&r.cascade, "cascade", false, "also take from the entity's parent")
	for _, flag := range []string{"entity", "resource", "parent-limit"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return &r
}

// check returns an error about what is missing.
func (r *requestFlags) check() error {
	switch {
	case r.entity == "":
		return usagef("name the entity with --entity")
	case r.resource == "":
		return usagef("name the resource with --resource")
	case len(*r.limits) == 0 && !r.stored:
		return usagef("name at least one limit, such as --limit rpm=100/min, or use stored limits with --stored")
	case len(*r.parentLimits) > 0 && !r.cascade && !r.stored:
		return usagef("--parent-limit has no effect without --cascade or --stored")
	}
	return nil
}

// parents returns the parent's limits, or nil if the flag is absent.
func (r *requestFlags) parents() []zael.Limit {
	if len(*r.parentLimits) == 0 {
		return nil
	}
	return *r.parentLimits
}

// ofRequest returns an error of an acquire or a query in terms of the command line.
func (r *requestFlags) ofRequest(err error) error {
	if errors.Is(err, zael.ErrNoLimits) {
		return fmt.Errorf("no limits are stored for %s on %s: store some with 'zael limits set', or name some with --limit", r.entity, r.resource)
	}
	return ofFlags(err)
}
