package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/limitsfile"
)

const fileHelp = `The file is YAML:

  system:
    limits: [rpm=1000/min]
  resources:
    gpt-4:
      limits:
        - rpm=100/min
        - tpm=10000/min burst 20000
  entities:
    project-1:
      name: Project one
      metadata: {team: search}
      limits: [rpm=500/min]     # on resources that it has none for
    key-1:
      parent: project-1
      cascade: true
      resources:
        gpt-4:
          limits: []            # none are stored: the next scope decides

It binds what it names and nothing else. Entities that are missing are created;
none is deleted. The limits of a scope are replaced as a whole, and deleted where
the file says []. An entity that is otherwise than the file says is an error: it
cannot be changed, only deleted and created.`

func (a *app) limitsPlan() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Show what apply would do",
		Long: `Plan shows what differs between a file and the store: + is created, ~ changed, -
deleted. It changes nothing. The exit code is 0 also if something differs.

` + fileHelp,
		Example: `  printf 'resources: {gpt-4: {limits: [rpm=100/min]}}' | zael limits plan -f -
  zael limits plan -f limits.yaml --json`,
		Args: cobra.NoArgs,
	}
	file := addFile(cmd)
	store := addStore(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		f, err := a.readLimits(cmd.Context(), *file)
		if err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l *zael.Limiter) error {
			plan, err := limitsfile.Compare(ctx, l, f)
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

func (a *app) limitsApply() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Bring the store to what a file says",
		Long: `Apply does what plan shows, and says what it did. It does not ask. Applied again,
it has nothing to do.

In a SQLite file all lines are one transaction: all are done, or none if one
fails. On DynamoDB they are done one by one, and if one fails those before it
stay: apply again. Each has its audit event.

` + fileHelp,
		Example: `  printf 'resources: {gpt-4: {limits: [rpm=100/min]}}' | zael limits apply -f -
  zael limits apply -f limits.yaml`,
		Args: cobra.NoArgs,
	}
	file := addFile(cmd)
	store := addStore(cmd, storeTimeout)
	a.addPrincipal(cmd, store)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		f, err := a.readLimits(cmd.Context(), *file)
		if err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l *zael.Limiter) error {
			plan, err := limitsfile.Compare(ctx, l, f)
			if err != nil {
				return fileError(*file, err)
			}
			done, err := limitsfile.Apply(ctx, l, plan)
			if err != nil {
				err = fmt.Errorf("%d of %d changes are done: %w", len(done), len(plan.Changes), err)
			}
			if !*asJSON {
				for _, c := range done {
					a.printChange(c)
				}
			}
			if *asJSON {
				return errors.Join(err, a.printJSON(planReportOf(plan, done)))
			}
			if err == nil {
				a.printPlan(plan, "applied", "created", "changed", "deleted")
			}
			return err
		})
	})
	return cmd
}

// addFile gives cmd the flag --file.
func addFile(cmd *cobra.Command) *string {
	file := cmd.Flags().StringP("file", "f", "", "`FILE` with limits; - is standard input")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml")
	return file
}

// readLimits reads a file of limits.
func (a *app) readLimits(ctx context.Context, file string) (*limitsfile.File, error) {
	var r io.Reader
	switch file {
	case "":
		return nil, usagef("name the file with -f FILE")
	case "-":
		r = newInput(ctx, a.in)
	default:
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	parsed, err := limitsfile.Parse(r)
	return parsed, fileError(file, err)
}

// fileError puts the name of the file before each error about a line of it.
func fileError(file string, err error) error {
	if _, ok := errors.AsType[*limitsfile.Error](err); !ok {
		return err
	}
	var lines []string
	for one := range strings.Lines(err.Error()) {
		lines = append(lines, name(file)+":"+strings.TrimRight(one, "\n"))
	}
	return errors.New(strings.Join(lines, "\nzael: "))
}

// printChange writes a change, and for limits each of them.
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

// printPlan writes how much there is.
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

// A planReport is a plan, or what was done of it, as JSON.
type planReport struct {
	Changes   []changeReport `json:"changes"`
	Unchanged int            `json:"unchanged"`
}

type changeReport struct {
	Action   limitsfile.Action `json:"action"`
	Kind     string            `json:"kind"` // entity or limits
	Entity   string            `json:"entity_id,omitempty"`
	Resource string            `json:"resource,omitempty"`
	Name     string            `json:"name,omitempty"`
	Parent   string            `json:"parent_id,omitempty"`
	Cascade  bool              `json:"cascade,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Before   []limitReport     `json:"before,omitzero"` // limits only
	After    []limitReport     `json:"after,omitzero"`
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
		r.Changes = append(r.Changes, one)
	}
	return r
}
