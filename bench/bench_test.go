package main_test

import (
	"testing"

	"github.com/zeroae/zael/bench/internal/load"
	"github.com/zeroae/zael/bench/internal/rows"
)

func Benchmark(b *testing.B) {
	var loads load.Loads
	for _, g := range rows.All(&loads) {
		b.Run(g.Name, func(b *testing.B) {
			for _, r := range g.Rows {
				b.Run(r.Name, r.Run)
			}
		})
	}
}
