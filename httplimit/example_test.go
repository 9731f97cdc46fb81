package httplimit_test

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/httplimit"
	"github.com/zeroae/zael/memstore"
)

func Example() {
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })

	policy := zael.MustPolicy("api", zael.PerMinute("requests", 2))
	limit := httplimit.Must(httplimit.New(limiter, policy, httplimit.Address(nil), nil))
	server := httptest.NewServer(limit.Handler(mux))
	defer server.Close()

	for range 3 {
		resp, err := server.Client().Get(server.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		fmt.Println(resp.StatusCode, resp.Header.Get("X-RateLimit-Remaining"), cmp.Or(resp.Header.Get("Retry-After"), "none"))
	}
	// Output:
	// 200 1 none
	// 200 0 none
	// 429 0 30
}

// A service that is paid by the byte takes an estimate, and settles to what it sent.
func ExampleConfig() {
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	policy := zael.MustPolicy("files", zael.PerMinute("requests", 100), zael.PerDay("bytes", 1_000_000))
	limit := httplimit.Must(httplimit.New(limiter, policy, httplimit.Header("X-Tenant"), &httplimit.Config{
		Cost: func(*http.Request) (zael.Amounts, error) { return zael.Amounts{"bytes": 10_000}, nil },
		Settle: func(_ *http.Request, answer httplimit.Answer) zael.Amounts {
			return zael.Amounts{"bytes": answer.Bytes}
		},
	}))
	handler := limit.Func(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a small file") })

	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("X-Tenant", "acme")
	handler.ServeHTTP(httptest.NewRecorder(), r)
	left, err := limiter.Available(r.Context(), zael.Query{Entity: "acme", Policy: policy})
	fmt.Println(left, err)
	// Output: bytes=999988 requests=99 <nil>
}
