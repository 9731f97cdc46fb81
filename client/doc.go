// Package client calls the JSON API of zael serve: acquires, leases, reports and administration of a
// limiter in another process.
//
//	package main
//
//	import (
//		"context"
//		"errors"
//		"fmt"
//		"log"
//		"os"
//
//		"github.com/zeroae/zael"
//		"github.com/zeroae/zael/client"
//	)
//
//	func main() {
//		limits, err := client.New("http://127.0.0.1:8080", &client.Config{Token: os.Getenv("ZAEL_TOKEN")})
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer limits.Close()
//
//		req := client.Request{
//			Entity: "key-1", Resource: "gpt-4", Consume: zael.Amounts{"tpm": 500},
//			Limits: []zael.Limit{zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000)},
//		}
//		err = limits.Do(context.Background(), req, func(ctx context.Context, lease *client.Lease) error {
//			return lease.Settle(zael.Amounts{"tpm": 321}) // what was really used
//		})
//		var refusal *zael.ExceededError
//		if errors.As(err, &refusal) {
//			fmt.Println("come again in", refusal.RetryAfter())
//		} else if err != nil {
//			log.Fatal(err)
//		}
//	}
//
// Without Limits the stored ones hold, and that is what most tokens may ask for.
//
// # Errors
//
// They are those of package zael, so that what handles a [zael.Limiter] handles a Client: a refusal is a
// [*zael.ExceededError] with the statuses of all limits, a server or a store that does not answer a
// [*zael.UnavailableError]. What the server says besides, such as that the token may not do this, is an
// [*Error].
//
// # Lost answers
//
// A server may have served a request whose answer is lost. Reading, ends and renewals of leases, and
// whatever has an idempotency key can be asked for again without harm: the Client makes up to three
// tries, a moment apart. An acquire without a key it makes once, as a second one could take again. If it
// fails with a [*zael.UnavailableError], it may have taken. What never reached a server is always tried
// again.
//
// # Security
//
// Beyond this machine an address must be https. Redirects are not followed, answers of more than 64
// MiB are not read, and what is no clear yes admits nobody.
package client
