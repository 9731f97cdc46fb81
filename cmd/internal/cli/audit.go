package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

// An auditReport is the audit log as JSON.
type auditReport struct {
	Events []zael.AuditEvent `json:"events"`
}

func (a *app) audit() *cobra.Command {
	var q zael.AuditQuery
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed entities, limits and other settings",
		Long: `Audit shows changes of entities, limits, switches, failure modes, buckets and
namespaces, newest first, and who made them.`,
		Example: `  zael audit --max 20
  zael audit --entity key-1 --from 2026-01-01 --json`,
		Args: cobra.NoArgs,
	}
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	f := cmd.Flags()
	f.StringVarP(&q.Entity, "entity", "e", "", "only changes of the entity `ID`")
	f.IntVar(&q.Max, "max", 100, "show at most `N` changes")
	from := addTime(cmd, "from", "only changes at this time or later")
	to := addTime(cmd, "to", "only changes before this time")
	for _, flag := range []string{"entity", "max"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if q.Max < 1 {
			return usagef("--max %d is not at least 1", q.Max)
		}
		q.From, q.To = from.Time, to.Time
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			events, err := l.Audit(ctx, q)
			switch {
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(auditReport{events})
			case len(events) == 0:
				fmt.Fprintln(a.out, "no changes")
				return nil
			}
			t := newTable("time", "action", "by", "entity", "resource", "details")
			for _, e := range events {
				var details []string
				for _, key := range slices.Sorted(maps.Keys(e.Details)) {
					details = append(details, key+"="+e.Details[key])
				}
				t.add(e.Time.Format(time.RFC3339), string(e.Action), printable(e.Principal), e.Entity, e.Resource,
					printable(strings.Join(details, " ")))
			}
			t.write(a.out, "")
			return nil
		})
	})
	return cmd
}
