// Command http is a service that holds each client address to 5 requests a
// second, and tells it what is left.
//
//	go run ./examples/http
//	curl -i http://localhost:8080/
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

func main() {
	handler, err := limited(http.HandlerFunc(hello), zael.MustPolicy("hello", zael.PerSecond("requests", 5)))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("localhost:8080", handler)) //nolint:gosec // an example: a service sets timeouts
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }

// limited lets next serve what policy admits, by the client's address.
func limited(next http.Handler, policy *zael.Policy) (http.Handler, error) {
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, "no client address", http.StatusInternalServerError)
			return
		}
		d, err := limiter.Decide(r.Context(), policy.For(client))
		if err != nil {
			http.Error(w, "no limits now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("X-RateLimit-Remaining", fmt.Sprint(max(0, d.Status(0).Available)))
		if exceeded, ok := errors.AsType[*zael.ExceededError](d.Err()); ok {
			if seconds, ok := exceeded.RetryAfterHeader(); ok {
				w.Header().Set("Retry-After", seconds)
			}
			http.Error(w, exceeded.Error(), http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	}), nil
}
