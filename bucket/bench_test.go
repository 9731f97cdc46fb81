package bucket_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
)

// setup is a bucket in use: 1000 of 10,000 tokens are taken.
func setup(b *testing.B) (bucket.State, bucket.Instant) {
	b.Helper()
	at, err := bucket.At(time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC))
	if err != nil {
		b.Fatal(err)
	}
	s, ok := full(bucket.Definition{Burst: 10_000, Amount: 10_000, Period: time.Minute, Capacity: 10_000}, at).Take(at, 1000, 0)
	if !ok {
		b.Fatal("take 1000: got false, want true")
	}
	return s, at
}

func BenchmarkTake(b *testing.B) {
	s, at := setup(b)
	for _, c := range []struct {
		name  string
		at    bucket.Instant
		n     int64
		ahead time.Duration
		ok    bool
	}{
		{"busy", at, 1, 0, true},
		{"idle", at + bucket.Instant(time.Hour), 1, 0, true},
		{"ahead", at, 1, time.Second, true},
		{"refused", at, 9001, 0, false},
		{"zero", at, 0, 0, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := s.Take(c.at, c.n, c.ahead); ok != c.ok {
					b.Fatalf("got %v, want %v", ok, c.ok)
				}
			}
		})
	}
}

func BenchmarkGive(b *testing.B) {
	s, at := setup(b)
	r := s.Receipt()
	b.ReportAllocs()
	for b.Loop() {
		if after := s.Give(at, 1000, r); after.Mark == s.Mark {
			b.Fatal("got nothing, want 1000")
		}
	}
}

func BenchmarkDrip(b *testing.B) {
	_, at := setup(b)
	for _, c := range []struct {
		name string
		d    bucket.Definition
		at   bucket.Instant
	}{
		{"after the epoch", perSecond(100, 100), at},
		{"before the epoch", perSecond(100, 100), -at},
		{"whole tokens", perSecond(2_000_000, 100), at},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c.d.Drip(c.at) == 0 {
					b.Fatal("got 0, want another")
				}
			}
		})
	}
}

func BenchmarkWait(b *testing.B) {
	s, at := setup(b)
	for _, c := range []struct {
		name string
		n    int64
	}{
		{"none", 1},
		{"some", 10_000},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if wait := s.Wait(at, c.n); (wait > 0) != (c.n > 9000) {
					b.Fatalf("got %v", wait)
				}
			}
		})
	}
}

func BenchmarkRedefine(b *testing.B) {
	s, at := setup(b)
	other := perSecond(100, 20_000)
	b.ReportAllocs()
	for b.Loop() {
		if s.Redefine(other, at, 0).Mark == s.Mark {
			b.Fatal("got the same mark, want another")
		}
	}
}
