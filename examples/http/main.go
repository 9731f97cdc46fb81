// Command http is a service that holds each client address to 5 requests a
// second, and tells it what is left.
//
//	go run ./examples/http
//	curl -i http://localhost:8080/
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/httplimit"
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
	limit, err := httplimit.New(limiter, policy, httplimit.Address(nil), nil)
	if err != nil {
		return nil, err
	}
	return limit.Handler(next), nil
}
