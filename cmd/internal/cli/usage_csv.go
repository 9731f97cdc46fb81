package cli

import (
	"encoding/csv"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
)

// writeUsageCSV writes a line for each record, with a column for each limit.
func writeUsageCSV(out io.Writer, u *zael.Usage) error {
	names := slices.Sorted(maps.Keys(u.Amounts))
	w := csv.NewWriter(out)
	lines := [][]string{append([]string{"start", "window", "entity_id", "resource", "events"}, names...)}
	for _, r := range u.Records {
		line := []string{r.Start.Format(time.RFC3339), string(r.Window), r.Entity, r.Resource, strconv.FormatInt(r.Events, 10)}
		for _, name := range names {
			cell := ""
			if n, ok := r.Amounts[name]; ok {
				cell = strconv.FormatInt(n, 10)
			}
			line = append(line, cell)
		}
		lines = append(lines, line)
	}
	return w.WriteAll(lines)
}
