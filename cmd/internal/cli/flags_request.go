package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

// A requestFlags is who asks for what, under which limits.
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
	f.StringVarP(&r.entity, "entity", "e", "", "`ID` of who is limited")
	f.StringVarP(&r.resource, "resource", "r", "", "`NAME` of what is accessed")
	r.limits = addLimits(cmd)
	r.parentLimits = new(limitsValue)
	f.Var(r.parentLimits, "parent-limit", "a limit of the parent; may be repeated (default: as --limit)")
	r.consume = addAmounts(cmd, consume)
	f.BoolVar(&r.stored, "stored", false, "use the limits in the store; --limit counts where there are none")
	f.BoolVar(&r.cascade, "cascade", false, "take from the entity's parent too")
	for _, flag := range []string{"entity", "resource", "parent-limit"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return &r
}

// check tells what is missing.
func (r *requestFlags) check() error {
	switch {
	case r.entity == "":
		return usagef("say who is limited with --entity")
	case r.resource == "":
		return usagef("say what is accessed with --resource")
	case len(*r.limits) == 0 && !r.stored:
		return usagef("name at least one limit, such as --limit rpm=100/min, or use those in the store with --stored")
	case len(*r.parentLimits) > 0 && !r.cascade && !r.stored:
		return usagef("--parent-limit has no effect without --cascade or --stored")
	}
	return nil
}

// parents is the value of ParentLimits, which distinguishes none from no word.
func (r *requestFlags) parents() []zael.Limit {
	if len(*r.parentLimits) == 0 {
		return nil
	}
	return *r.parentLimits
}

// ofRequest is an error of an acquire or a query in the words of the command
// line.
func (r *requestFlags) ofRequest(err error) error {
	if errors.Is(err, zael.ErrNoLimits) {
		return fmt.Errorf("no limits are stored for %s on %s: store some with zael limits set, or name some with --limit", r.entity, r.resource)
	}
	return ofFlags(err)
}
