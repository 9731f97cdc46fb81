// Command openai asks a model of OpenAI or of a compatible server some questions at once,
// in streams, and holds them all to 60 requests and 40,000 tokens a minute:
//
//	OPENAI_API_KEY=… go run ./examples/openai 'What is a token bucket?' 'And a leaky one?'
//
// It runs in tests/sdk. OPENAI_BASE_URL is that of another server.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/llm"
	"github.com/zeroae/zael/memstore"
)

func main() {
	policy := zael.MustPolicy("gpt-4o-mini", zael.PerMinute("rpm", 60), zael.PerMinute("tpm", 40_000))
	if err := run(context.Background(), policy, os.Args[1:], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run asks questions and writes the answers, and what is left of the limits.
func run(ctx context.Context, policy *zael.Policy, questions []string, out io.Writer, options ...option.RequestOption) error {
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		return err
	}
	limits, err := llm.New(limiter, policy, llm.Fixed("team-1"), &llm.Config{MaxWait: time.Minute})
	if err != nil {
		return err
	}
	client := openai.NewClient(append(options, option.WithMiddleware(limits.Middleware))...)

	answers, errs := make([]string, len(questions)), make([]error, len(questions))
	var group sync.WaitGroup
	for i, question := range questions {
		group.Go(func() { answers[i], errs[i] = ask(ctx, &client, question) })
	}
	group.Wait()
	for i, question := range questions {
		fmt.Fprintf(out, "%s\n\t%s\n", question, answers[i])
	}
	left, err := limiter.Available(ctx, zael.Query{Entity: "team-1", Policy: policy})
	fmt.Fprintln(out, "left:", left)
	return errors.Join(errors.Join(errs...), err)
}

// ask returns the answer to a question.
func ask(ctx context.Context, client *openai.Client, question string) (string, error) {
	stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
		Model:               "gpt-4o-mini",
		MaxCompletionTokens: openai.Int(1000),
		Messages:            []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)},
	})
	defer func() { _ = stream.Close() }()
	var answer strings.Builder
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			answer.WriteString(choice.Delta.Content)
		}
	}
	err := stream.Err()
	if failed, ok := errors.AsType[*openai.Error](err); ok {
		if exceeded, ok := llm.Refusal(failed.Response); ok { // not OpenAI's own
			return answer.String(), fmt.Errorf("%s refuses: %w", exceeded.Primary().Limit.Name, exceeded)
		}
	}
	return answer.String(), err
}
