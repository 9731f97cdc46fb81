package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Benchmark is the handlers alone, without a connection.
func Benchmark(b *testing.B) {
	daemon, err := newDaemon(b.Context(), "memory:?usage=true")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = daemon.Close(context.Background()) }()
	for _, r := range rows() {
		for name, h := range map[string]http.Handler{"api": daemon, "bare": http.HandlerFunc(bare)} {
			b.Run(r.name+"/"+name, func(b *testing.B) {
				bodies := make([][]byte, r.keys)
				for i := range bodies {
					bodies[i] = r.body(i)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					request := httptest.NewRequest(http.MethodPost, "/v1/acquire", bytes.NewReader(bodies[i%len(bodies)]))
					request.Host = "localhost"
					request.Header.Set("Content-Type", "application/json")
					answer := httptest.NewRecorder()
					if h.ServeHTTP(answer, request); answer.Code != http.StatusOK && answer.Code != http.StatusTooManyRequests {
						b.Fatalf("got %d %s", answer.Code, answer.Body)
					}
				}
			})
		}
	}
}
