// Command anthropic asks a model of Anthropic questions, one after the other, and holds the
// API key to 50 requests, 30,000 tokens of input and 8,000 of output a minute, and to a
// dollar a day:
//
//	ANTHROPIC_API_KEY=… go run ./examples/anthropic 'What is a token bucket?' 'And a leaky one?'
//
// It runs in tests/sdk.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/llm"
	"github.com/zeroae/zael/memstore"
)

const model = "claude-sonnet-4-5"

func main() {
	policy := zael.MustPolicy(model,
		zael.PerMinute("rpm", 50), zael.PerMinute("itpm", 30_000), zael.PerMinute("otpm", 8000), zael.EachDay("usd", 1*llm.Dollar))
	if err := run(context.Background(), policy, os.Args[1:], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run asks questions and writes the answers, and what each has used.
func run(ctx context.Context, policy *zael.Policy, questions []string, out io.Writer, options ...option.RequestOption) error {
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		return err
	}
	price := llm.Price{Input: 3 * llm.Dollar, CachedInput: 0.30 * llm.Dollar, CacheWrite: 3.75 * llm.Dollar, Output: 15 * llm.Dollar}
	limits, err := llm.New(limiter, policy, llm.APIKey(), &llm.Config{
		Prices:  map[string]llm.Price{model: price},
		Settled: func(_ *llm.Call, u llm.Usage) { fmt.Fprintf(out, "%d tokens in, %d out\n", u.Input, u.Output) },
	})
	if err != nil {
		return err
	}
	client := anthropic.NewClient(append(options, option.WithMiddleware(limits.Middleware))...)
	for _, question := range questions {
		reply, err := client.Messages.New(ctx, anthropic.MessageNewParams{
			Model: model, MaxTokens: 1000,
			Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(question))},
		})
		if failed, ok := errors.AsType[*anthropic.Error](err); ok {
			if exceeded, ok := llm.Refusal(failed.Response); ok { // not Anthropic's own
				return fmt.Errorf("%s refuses: %w", exceeded.Primary().Limit.Name, exceeded)
			}
		}
		if err != nil {
			return err
		}
		for i := range reply.Content {
			fmt.Fprintln(out, reply.Content[i].Text)
		}
	}
	return nil
}
