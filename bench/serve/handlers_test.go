package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Benchmark is the handlers alone, without a connection.
func Benchmark(b *testing.B) {
	handler, err := apiHandler()
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range rows() {
		for name, h := range map[string]http.Handler{"api": handler, "bare": http.HandlerFunc(bare)} {
			b.Run(r.name+"/"+name, func(b *testing.B) {
				bodies := make([][]byte, r.keys)
				for i := range bodies {
					bodies[i] = r.body(i)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					request := httptest.NewRequest(http.MethodPost, "/v1/acquire", bytes.NewReader(bodies[i%len(bodies)]))
					h.ServeHTTP(httptest.NewRecorder(), request)
				}
			})
		}
	}
}
