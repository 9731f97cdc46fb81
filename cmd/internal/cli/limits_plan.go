package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/limitsfile"
)

func (a *app) limitsPlan() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Show what apply would change",
		Long: `Plan shows what apply would create (+), change (~) and delete (-), and changes nothing.
The exit code is 0 even if there are differences.

` + fileHelp,
		Example: `  printf 'resources: {gpt-4: {limits: [rpm=100/min]}}' | zael limits plan -f -
  zael limits plan -f limits.yaml --json`,
		Args: cobra.NoArgs,
	}
	file := addFile(cmd)
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	replace := addReplace(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		f, err := a.readLimits(cmd.Context(), *file)
		if err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			plan, _, err := comparePlan(ctx, l, f, *replace)
			if err != nil {
				return fileError(*file, err)
			}
			if *asJSON {
				return a.printJSON(planReportOf(plan, plan.Changes))
			}
			for _, c := range plan.Changes {
				a.printChange(c)
			}
			a.printPlan(plan, "plan", "to create", "to change", "to delete")
			return nil
		})
	})
	return cmd
}

// printChange writes a change, with a line for each limit.
func (a *app) printChange(c limitsfile.Change) {
	sign := map[limitsfile.Action]string{limitsfile.Create: "+", limitsfile.Replace: "~", limitsfile.Delete: "-"}[c.Action]
	if e := c.Entity; e != nil {
		fmt.Fprintf(a.out, "%s entity %s", sign, e.ID)
		if e.Name != "" {
			fmt.Fprintf(a.out, " name=%s", printable(e.Name))
		}
		if e.ParentID != "" {
			fmt.Fprintf(a.out, " parent=%s", e.ParentID)
		}
		if e.Cascade {
			fmt.Fprint(a.out, " cascade")
		}
		for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
			fmt.Fprintf(a.out, " %s", printable(key+"="+e.Metadata[key]))
		}
		fmt.Fprintln(a.out)
		return
	}
	if c.Namespace != "" {
		fmt.Fprintf(a.out, "%s namespace %s\n", sign, c.Namespace)
		return
	}
	if s := c.Setting; s != nil {
		fmt.Fprintf(a.out, "%s %s of %s: %s, was %s\n", sign, settingKind(s), c.Scope, s, c.Was)
		return
	}
	fmt.Fprintf(a.out, "%s limits of %s\n", sign, c.Scope)
	find := func(limits []zael.Limit, name string) (zael.Limit, bool) {
		i := slices.IndexFunc(limits, func(l zael.Limit) bool { return l.Name == name })
		if i < 0 {
			return zael.Limit{}, false
		}
		return limits[i], true
	}
	for _, after := range c.After {
		switch before, there := find(c.Before, after.Name); {
		case !there:
			fmt.Fprintf(a.out, "    + %s\n", after)
		case before.Kind() != after.Kind():
			fmt.Fprintf(a.out, "    ~ %s, was %s (%s instead of %s)\n", after, before, after.Kind(), before.Kind())
		case before != after:
			fmt.Fprintf(a.out, "    ~ %s, was %s\n", after, before)
		}
	}
	for _, before := range c.Before {
		if _, there := find(c.After, before.Name); !there {
			fmt.Fprintf(a.out, "    - %s\n", before)
		}
	}
}

// printPlan writes a summary of a plan.
func (a *app) printPlan(p *limitsfile.Plan, title, create, change, remove string) {
	n := map[limitsfile.Action]int{}
	for _, c := range p.Changes {
		n[c.Action]++
	}
	if len(p.Changes) == 0 {
		fmt.Fprintf(a.out, "%s: nothing to do, %d unchanged\n", title, p.Unchanged)
		return
	}
	fmt.Fprintf(a.out, "%s: %d %s, %d %s, %d %s, %d unchanged\n",
		title, n[limitsfile.Create], create, n[limitsfile.Replace], change, n[limitsfile.Delete], remove, p.Unchanged)
}

// settingKind names what a setting is.
func settingKind(s *limitsfile.Setting) string {
	if s.Switch != nil {
		return "switch"
	}
	return "failure mode"
}

// A planReport is a plan, or the part of it that was done, as JSON.
type planReport struct {
	Changes   []changeReport `json:"changes"`
	Unchanged int            `json:"unchanged"`
}

type changeReport struct {
	Action   limitsfile.Action `json:"action"`
	Kind     string            `json:"kind"` // entity, limits, switch, failure_mode or namespace
	Entity   string            `json:"entity_id,omitempty"`
	Resource string            `json:"resource,omitempty"`
	Name     string            `json:"name,omitempty"`
	Parent   string            `json:"parent_id,omitempty"`
	Cascade  bool              `json:"cascade,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Before   []zael.Limit      `json:"before,omitzero"` // limits only
	After    []zael.Limit      `json:"after,omitzero"`
	Was      string            `json:"was,omitempty"` // settings only
	Is       string            `json:"is,omitempty"`
}

func planReportOf(p *limitsfile.Plan, changes []limitsfile.Change) planReport {
	r := planReport{Changes: []changeReport{}, Unchanged: p.Unchanged}
	for _, c := range changes {
		one := changeReport{
			Action: c.Action, Kind: "limits", Entity: c.Scope.Entity, Resource: c.Scope.Resource,
			Before: limitReports(c.Before), After: limitReports(c.After),
		}
		if e := c.Entity; e != nil {
			one = changeReport{
				Action: c.Action, Kind: "entity", Entity: e.ID, Name: e.Name, Parent: e.ParentID,
				Cascade: e.Cascade, Metadata: e.Metadata,
			}
		}
		if s := c.Setting; s != nil {
			one = changeReport{
				Action: c.Action, Kind: strings.ReplaceAll(settingKind(s), " ", "_"), Entity: c.Scope.Entity, Resource: c.Scope.Resource,
				Was: c.Was, Is: s.String(),
			}
		}
		if c.Namespace != "" {
			one = changeReport{Action: c.Action, Kind: "namespace", Name: c.Namespace}
		}
		r.Changes = append(r.Changes, one)
	}
	return r
}
