package main

import (
	"testing"

	"github.com/zeroae/zael/bench/internal/load"
	"github.com/zeroae/zael/bench/internal/suite"
)

func Benchmark(b *testing.B) {
	loads := load.Loads{Once: testing.Short()}
	for _, g := range suite.All(&loads) {
		b.Run(g.Name, func(b *testing.B) {
			for _, one := range g.Benchmarks {
				b.Run(one.Name, one.Run)
			}
		})
	}
}
