// Package llm holds the calls of a program to LLM providers to limits: requests, tokens,
// calls in flight and money. It imports no SDK. It is a transport of net/http, and a
// middleware of the shape that openai-go and anthropic-sdk-go have:
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"log"
//		"time"
//
//		"github.com/openai/openai-go/v3"
//		"github.com/openai/openai-go/v3/option"
//
//		"github.com/zeroae/zael"
//		"github.com/zeroae/zael/llm"
//		"github.com/zeroae/zael/memstore"
//	)
//
//	func main() {
//		limiter, err := zael.New(memstore.New(nil), nil)
//		if err != nil {
//			log.Fatal(err)
//		}
//		policy := zael.MustPolicy("gpt-4o", zael.PerMinute("rpm", 500), zael.PerMinute("tpm", 200_000))
//		limits := llm.Must(llm.New(limiter, policy, llm.Fixed("team-1"), &llm.Config{MaxWait: time.Minute}))
//		client := openai.NewClient(option.WithMiddleware(limits.Middleware)) // OPENAI_API_KEY is set
//
//		reply, err := client.Chat.Completions.New(context.Background(), openai.ChatCompletionNewParams{
//			Model:    "gpt-4o",
//			Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello!")},
//		})
//		if err != nil {
//			log.Fatal(err)
//		}
//		fmt.Println(reply.Choices[0].Message.Content)
//	}
//
// With a store that processes share, any number of them hold one budget together.
//
// # What a call takes
//
// Calls are recognised by their path: those of OpenAI and of compatible servers (chat,
// completions, responses, embeddings, images and audio), of Anthropic, Gemini and Bedrock;
// see [API]. Anything else, such as a list of models, passes and takes nothing; see
// Config.Recognize.
//
// A call takes an estimate before it is sent: tokens of the prompt, from its length and
// what earlier calls have shown, and of the output, from what the call asks for and what
// earlier answers had. An estimate larger than a limit's burst takes the burst. When the
// answer has been read, or its body is closed, the call settles to the usage that the
// provider reports, in plain answers and in streams. What was used beyond the estimate
// becomes debt.
//
// The names of limits tell what they count; see [Unit].
//
// # What is not reported
//
// An answer that is cut, or has no usage, settles to the prompt's estimate, or to what
// the stream has told of it, and the output that was seen. A call that the provider
// refuses or that fails there (status 400 and above) gives its tokens back, the request
// stays. A call that was never sent gives everything back. Each attempt of an SDK's
// retries is a call of its own.
//
// A call of the Responses API in the background, whose usage comes later, keeps its
// estimate.
//
// Of compressed answers only gzip is read, and requests are made to ask for nothing else.
// Another one passes as it is, and settles to the prompt's estimate and a token of output
// for every two bytes, at most the estimate.
//
// # Refusals
//
// A call that a limit refuses, after Config.MaxWait, is not sent. It is answered with
// status 429 and the provider's own form of a rate limit error, so that SDKs return
// theirs, and retry when the tokens are there: see [Refusal]. Where waiting is pointless
// they are told not to. The provider's own refusals pass; with Config.FollowProvider they,
// and the limits that it announces, bind the calls that follow.
//
// Prompts, answers and API keys are never kept or logged.
package llm

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/zeroae/zael"
)

// A Config tunes Limits. A nil *Config is the same as the zero Config. Its
// functions are called concurrently.
type Config struct {
	// Models are the policies of models by name, as requests name them. Other models
	// have the policy that was passed to New, which they share.
	Models map[string]*zael.Policy

	// Policy returns the policy of a model that Models lacks. Nil means the policy that
	// was passed to New.
	Policy func(call *Call) (*zael.Policy, error)

	// Units say what limits count whose names do not say it, by limit name; see [Unit].
	Units map[string]Unit

	// Prices are the prices of models by name, for limits that count MicroDollars. The
	// price of "" is that of the models that are not named. A call of a model without
	// a price fails if a limit counts MicroDollars.
	Prices map[string]Price

	// Price returns the price of a model that Prices lacks, in place of that of "". Its
	// error is the call's.
	Price func(call *Call) (Price, error)

	// Tokens returns the number of tokens of a text of a prompt. Nil means a quarter of
	// its bytes. Both are multiplied with a ratio that is learned from reported usage.
	Tokens func(model, text string) int64

	// Amounts returns what usage takes, by limit name, where it is not the default: input
	// tokens that were read from the provider's cache do not count, except in money. A
	// limit that it does not name takes the default. It is called with the estimate
	// and with what was used.
	Amounts func(call *Call, usage Usage) zael.Amounts

	// MediaTokens is the estimate for an image or document that is within the request,
	// as base64 or a data URL. 0 means 1,000.
	MediaTokens int64

	// DefaultOutput is the estimate of an answer's tokens, until ten were reported, of
	// calls that set no maximum. 0 means 1,000.
	DefaultOutput int64

	// Cascade takes from the entity's parent too; see zael.Request.
	Cascade bool

	// MaxWait lets a call wait in line; see zael.Request. 0 does not wait.
	MaxWait time.Duration

	// Acquire takes the lease of a call by a request that has its estimate. It may change the
	// request in all but entity, policy and amounts. It is called again with less if its
	// refusal says that no wait helps and the estimate is larger than a burst. Nil means
	// Limiter.Acquire.
	Acquire func(ctx context.Context, call *Call, req zael.Request) (*zael.Lease, error)

	// FailureMode decides what happens while the store cannot answer. Zero is that of
	// the Limiter. With zael.FailClosed a call fails with a *zael.UnavailableError.
	FailureMode zael.FailureMode

	// Drain is how long an answer is still read after its caller has left, to learn what
	// it costs: the provider works, and charges, until its end. 0 cuts the answer off, so
	// that the provider can stop, and settles to what was seen. See [Limits.Shutdown].
	Drain time.Duration

	// FollowProvider lets the provider's own limits, as it announces them, bind the calls
	// that follow. After an answer with status 429, 503 or 529 and Retry-After there is no
	// call until that is over; nor if headers say that nothing is left, until they say that
	// there is; and limits of requests and tokens that OpenAI or Anthropic announce refill
	// between answers and are taken from as ours are. What does not fit waits, up to
	// MaxWait, or is refused by a limit named "provider", "provider-requests",
	// "provider-tokens", "provider-input-tokens" or "provider-output-tokens". It binds an
	// API key at a host, for one model, in this process alone, and never for more than an
	// hour; the last 1,000 of them are remembered.
	FollowProvider bool

	// KeepBody leaves request bodies as they are. Otherwise a streamed chat completion
	// asks for its usage with stream_options.include_usage, unless it does already, and
	// the chunk that comes of it is hidden from the caller.
	KeepBody bool

	// Recognize returns which API a request calls and, if the path names it, the model.
	// Nil means [Recognize]. It must not read the body. NoAPI lets a request pass.
	Recognize func(r *http.Request) (api API, model string)

	// Settled is called with what a call has used when it ends, except for calls that
	// were not sent. It must not block.
	Settled func(call *Call, usage Usage)

	// Report is called with errors that the caller does not see: of a lease that was not
	// settled. Nil ignores them.
	Report func(call *Call, err error)
}

// Limits hold calls to a policy. Their methods may be called concurrently.
type Limits struct {
	limiter *zael.Limiter
	policy  *zael.Policy
	key     KeyFunc
	config  Config
	learned learned

	accounts accounts // with Config.FollowProvider
	underway underway
}

// New returns Limits that take from those of a policy, or of Config.Models, for the
// entity that key returns. The error is a [*zael.ValidationError].
func New(limiter *zael.Limiter, policy *zael.Policy, key KeyFunc, config *Config) (*Limits, error) {
	l := &Limits{limiter: limiter, policy: policy, key: key}
	if config != nil {
		l.config = *config
	}
	if err := l.validate(); err != nil {
		return nil, err
	}
	l.config.MediaTokens = cmp.Or(l.config.MediaTokens, 1000)
	l.config.DefaultOutput = cmp.Or(l.config.DefaultOutput, 1000)
	if l.config.Recognize == nil {
		l.config.Recognize = Recognize
	}
	return l, nil
}

func (l *Limits) validate() error {
	c := &l.config
	invalid := func(field, reason string) error { return &zael.ValidationError{Field: field, Reason: reason} }
	switch {
	case l.limiter == nil:
		return invalid("limiter", "is nil: pass what zael.New returned")
	case l.policy == nil:
		return invalid("policy", "is nil: pass one of zael.NewPolicy or zael.StoredPolicy")
	case l.key == nil:
		return invalid("key", "is nil: pass one, such as llm.APIKey(), or llm.Fixed for one bucket for all")
	case c.MaxWait < 0:
		return invalid("Config.MaxWait", "is negative: use 0 not to wait")
	case c.Drain < 0:
		return invalid("Config.Drain", "is negative: use 0 to cut answers off")
	case c.MediaTokens < 0 || c.MediaTokens > maxTokens:
		return invalid("Config.MediaTokens", "is out of range: use 0 for 1,000")
	case c.DefaultOutput < 0 || c.DefaultOutput > maxTokens:
		return invalid("Config.DefaultOutput", "is out of range: use 0 for 1,000")
	}
	for name, unit := range c.Units {
		if unit == 0 || unit >= unitsEnd {
			return invalid("Config.Units["+name+"]", "is none of the constants")
		}
	}
	for model, price := range c.Prices {
		if !price.valid() {
			return invalid("Config.Prices["+model+"]", "is negative or more than 1,000 dollars a token")
		}
	}
	if _, err := l.unitsOf(l.policy); err != nil {
		return err
	}
	for model, policy := range c.Models {
		if policy == nil {
			return invalid("Config.Models["+model+"]", "is nil: pass one of zael.NewPolicy or zael.StoredPolicy")
		}
		if _, err := l.unitsOf(policy); err != nil {
			return err
		}
	}
	return nil
}

// Must returns l and panics if err is not nil. It is for the start of a program.
func Must(l *Limits, err error) *Limits {
	if err != nil {
		panic(err)
	}
	return l
}

// Transport returns a transport that sends the calls that are admitted through base; nil
// means http.DefaultTransport.
func (l *Limits) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{l, base}
}

type transport struct {
	limits *Limits
	base   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.limits.Middleware(r, t.base.RoundTrip)
}

// CloseIdleConnections is what http.Client calls.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Middleware sends a call by next if it is admitted. It has the shape of a middleware of
// openai-go and anthropic-sdk-go: option.WithMiddleware(limits.Middleware). An error of
// its own is a *CallError, or matches zael.ErrUnavailable or the context's error.
func (l *Limits) Middleware(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if l == nil || l.limiter == nil {
		return nil, &CallError{errors.New("the Limits are nil or the zero value: make them with llm.New")}
	}
	api, model := l.config.Recognize(r)
	if api == NoAPI {
		return next(r)
	}
	call, body, err := l.read(r, api, model)
	if err != nil {
		return nil, err
	}
	x, err := l.admit(r, call)
	if err != nil && !body.read && r.Body != nil {
		_ = r.Body.Close() // as a RoundTripper must
	}
	if exceeded, ok := errors.AsType[*zael.ExceededError](err); ok {
		return refused(r, api, exceeded), nil
	}
	if errors.Is(err, zael.ErrDisabled) {
		return disabled(r, api), nil
	}
	if err != nil {
		return nil, err
	}
	x.hides = body.injected
	l.underway.begin()
	return x.send(l.outgoing(r, body, call.passed), next)
}

// A CallError is the error of a call whose key, policy or price cannot be determined.
type CallError struct {
	Cause error
}

// Error returns the cause.
func (e *CallError) Error() string { return "llm: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *CallError) Unwrap() error { return e.Cause }

// policyOf returns the policy of a call.
func (l *Limits) policyOf(call *Call) (*zael.Policy, error) {
	if p := l.config.Models[call.Model]; p != nil {
		return p, nil
	}
	if l.config.Policy == nil {
		return l.policy, nil
	}
	p, err := l.config.Policy(call)
	if err == nil && p == nil {
		err = errors.New("Config.Policy returned neither a policy nor an error")
	}
	return p, err
}

// admit takes the estimate of a call, and returns the exchange that will settle it.
func (l *Limits) admit(r *http.Request, call *Call) (*exchange, error) {
	policy, err := l.policyOf(call)
	if err != nil {
		return nil, &CallError{err}
	}
	units, err := l.unitsOf(policy)
	if err != nil {
		return nil, &CallError{err}
	}
	entity, err := l.key(r)
	if err == nil && entity == "" {
		err = errors.New("the call has no key for its limits")
	}
	if err != nil {
		return nil, &CallError{err}
	}
	x := &exchange{limits: l, call: call, units: units, resource: policy.Resource()}
	x.estimate = l.learned.estimate(x.resource, call, l.config.DefaultOutput)
	amounts, err := x.amounts(x.estimate, 1)
	if err != nil {
		return nil, &CallError{err}
	}
	req := policy.For(entity)
	req.Consume, req.Cascade, req.MaxWait, req.FailureMode = amounts, l.config.Cascade, l.config.MaxWait, l.config.FailureMode
	if l.config.FollowProvider {
		return x, x.follow(r, req)
	}
	return x, x.acquire(r.Context(), req)
}

// acquire takes a lease.
func (x *exchange) acquire(ctx context.Context, req zael.Request) (err error) {
	take := func() {
		if x.limits.config.Acquire != nil {
			x.lease, err = x.limits.config.Acquire(ctx, x.call, req)
		} else {
			x.lease, err = x.limits.limiter.Acquire(ctx, req)
		}
	}
	take()
	for capped(req.Consume, x.units, err) {
		take()
	}
	return err
}

// capped reduces amounts that are larger than a burst to it, and reports whether there
// were any: a call must not be refused for ever because of an estimate.
func capped(amounts zael.Amounts, units []limitUnit, err error) (changed bool) {
	exceeded, ok := errors.AsType[*zael.ExceededError](err)
	if !ok || exceeded.RetryAfter() != zael.Never {
		return false
	}
	for _, s := range exceeded.Violations() {
		burst, name := s.Limit.Burst, s.Limit.Name
		if s.Limit.Kind() != zael.KindBlock && burst > 0 && amounts[name] > burst && estimated(units, name) {
			amounts[name] = burst
			changed = true
		}
	}
	return changed
}
