package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/saturate"
)

const (
	chartWidth = 50 // of the longest bar
	fewWindows = 3  // without usage are shown; more are told
)

// printUsageChart draws a bar for each window: acquires, and then each limit, with what left it
// overdrawn if anything did.
func (a *app) printUsageChart(u *zael.Usage, window zael.Window) {
	var starts []time.Time
	events, amounts := map[time.Time]int64{}, map[string]map[time.Time]int64{}
	add := func(what string, at time.Time, n int64) {
		if amounts[what] == nil {
			amounts[what] = map[time.Time]int64{}
		}
		amounts[what][at] = saturate.Add(amounts[what][at], n)
	}
	for _, r := range slices.Backward(u.Records) { // in order of time
		if len(starts) == 0 || !starts[len(starts)-1].Equal(r.Start) {
			starts = append(starts, r.Start)
		}
		events[r.Start] = saturate.Add(events[r.Start], r.Events)
		for name, n := range r.Amounts {
			add(name, r.Start, n)
		}
		for name, n := range r.Overdrawn {
			add(name+" overdrawn", r.Start, n)
		}
	}
	a.printBars("acquires", events, starts, window)
	for _, name := range slices.Sorted(maps.Keys(amounts)) {
		fmt.Fprintln(a.out)
		a.printBars(name, amounts[name], starts, window)
	}
}

func (a *app) printBars(what string, values map[time.Time]int64, starts []time.Time, window zael.Window) {
	layout := map[zael.Window]string{zael.Hourly: "2006-01-02 15:04", zael.Daily: time.DateOnly, zael.Monthly: "2006-01"}[window]
	most := max(1, slices.Max(slices.Collect(maps.Values(values))))
	t := newTable(string(window)+", UTC", ">"+what, "")
	bar := func(at time.Time) {
		n := values[at]
		t.add(at.Format(layout), number(n), eighths(float64(max(n, 0))/float64(most)*chartWidth))
	}
	for i, at := range starts {
		if i > 0 {
			var empty []time.Time
			for _, next := window.Bounds(starts[i-1]); next.Before(at); _, next = window.Bounds(next) {
				empty = append(empty, next)
			}
			if len(empty) > fewWindows {
				t.add("…", "", fmt.Sprintf("(%s windows without usage)", number(int64(len(empty)))))
				empty = nil
			}
			for _, at := range empty {
				bar(at)
			}
		}
		bar(at)
	}
	t.write(a.out, "")
}

// eighths returns a bar of n characters, to an eighth of one.
func eighths(n float64) string {
	whole := int(n)
	text := strings.Repeat("█", whole)
	if part := int((n - float64(whole)) * 8); part > 0 {
		text += string([]rune(" ▏▎▍▌▋▊▉")[part])
	}
	return text
}
