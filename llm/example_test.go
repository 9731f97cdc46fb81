package llm_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
	"github.com/zeroae/zael/memstore"
)

func Example() {
	provider := httptest.NewServer(fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		return fakellm.Answer{Chunks: []string{"Hello."}, Input: 12, Output: 400}
	}))
	defer provider.Close()

	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	policy := zael.MustPolicy("gpt-4o", zael.PerHour("rph", 10), zael.PerHour("tph", 1000))
	limits := llm.Must(llm.New(limiter, policy, llm.Fixed("team-1"), nil))
	client := &http.Client{Transport: limits.Transport(nil)} // option.WithHTTPClient of an SDK
	defer client.CloseIdleConnections()

	for range 3 {
		body := strings.NewReader(`{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}],"max_tokens":500}`)
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, provider.URL+"/v1/chat/completions", body)
		if err != nil {
			fmt.Println(err)
			return
		}
		res, err := client.Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = io.Copy(io.Discard, res.Body) // at its end the call settles
		_ = res.Body.Close()
		exceeded, refused := llm.Refusal(res)
		fmt.Println(res.StatusCode, err)
		if refused {
			fmt.Println(exceeded.Primary().Limit.Name, "refuses")
		}
	}
	// Output:
	// 200 <nil>
	// 200 <nil>
	// 429 <nil>
	// tph refuses
}
