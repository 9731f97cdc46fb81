package cli

import (
	"encoding/csv"
	"io"
	"strconv"
	"time"

	"github.com/zeroae/zael"
)

// writeUsageCSV writes a line for each record, with a column for each limit, and one for how often
// that was overdrawn if it ever was.
func writeUsageCSV(out io.Writer, u *zael.Usage) error {
	columns := usageColumns(u)
	w := csv.NewWriter(out)
	head := []string{"start", "window", "entity_id", "resource", "events"}
	for _, c := range columns {
		head = append(head, c.head)
	}
	lines := [][]string{head}
	for _, r := range u.Records {
		line := []string{r.Start.Format(time.RFC3339), string(r.Window), r.Entity, r.Resource, strconv.FormatInt(r.Events, 10)}
		total := zael.UsageTotal{Amounts: r.Amounts, Overdrawn: r.Overdrawn}
		for _, c := range columns {
			cell := ""
			if n, ok := c.of(&total)[c.limit]; ok {
				cell = strconv.FormatInt(n, 10)
			}
			line = append(line, cell)
		}
		lines = append(lines, line)
	}
	return w.WriteAll(lines)
}
