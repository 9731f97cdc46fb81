package llm

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
)

// An exchange is a call that was admitted, until its lease has ended.
type exchange struct {
	limits   *Limits
	call     *Call
	units    []limitUnit
	resource string
	estimate Usage
	lease    *zael.Lease
	provider *announced // nil without Config.FollowProvider
	ticket   *ticket    // of provider
	hides    bool       // the usage that the caller has not asked for
	sent     atomic.Bool
	once     sync.Once
}

// send sends the call by next.
func (x *exchange) send(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	caller := r.Context()
	ctx, cancel := caller, context.CancelFunc(func() {})
	attached := func() bool { return true }
	if x.limits.config.Drain > 0 { // the answer may outlive the caller
		ctx, cancel = context.WithCancel(context.WithoutCancel(caller))
		attached = context.AfterFunc(caller, cancel)
	}
	ctx = context.WithValue(ctx, decisionKey{}, x.lease)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { x.sent.Store(true) },
	})
	answered := false
	defer func() {
		if !answered { // an error or a panic
			x.unanswered(caller)
			attached()
			cancel()
		}
	}()
	res, err := next(r.WithContext(ctx))
	if err != nil || res == nil {
		if caller.Err() != nil && err != nil && !errors.Is(err, caller.Err()) {
			err = errors.Join(err, caller.Err())
		}
		return res, err
	}
	answered = true
	attached()
	if res.Body == nil { // of a base that is none of net/http
		res.Body = http.NoBody
	}
	x.hear(res)
	if res.StatusCode/100 != 2 {
		x.end(caller, Usage{})
		if x.limits.config.Drain > 0 {
			res.Body = &closing{res.Body, cancel}
		}
		return res, nil
	}
	newAnswer(caller, x, res, cancel)
	return res, nil
}

// unanswered settles a call that has no answer. One that was not sent costs nothing.
func (x *exchange) unanswered(ctx context.Context) {
	if x.sent.Load() {
		x.end(ctx, Usage{Input: x.estimate.Input})
		return
	}
	x.once.Do(func() {
		defer x.limits.underway.end()
		x.reportError(x.lease.Rollback(ctx))
		if x.ticket != nil {
			x.provider.giveBack(x.ticket)
		}
	})
}

// hear learns what an answer says of the provider's limits.
func (x *exchange) hear(res *http.Response) {
	if x.ticket == nil {
		return
	}
	now := time.Now()
	said := announcementOf(res, now, x.ticket.at)
	if said.wait == 0 && (x.call.API == Gemini || x.call.API == GeminiEmbeddings) {
		said.wait = geminiWait(res)
	}
	x.provider.hear(x.ticket, &said, now)
}

// end ends the lease with what was used, once.
func (x *exchange) end(ctx context.Context, u Usage) {
	x.once.Do(func() {
		defer x.limits.underway.end()
		amounts, err := x.settled(u)
		if err == nil {
			err = x.lease.Settle(amounts)
		}
		x.reportError(err)
		x.reportError(x.lease.Commit(ctx))
		if x.limits.config.Settled != nil {
			x.limits.config.Settled(x.call, u)
		}
	})
}

func (x *exchange) reportError(err error) {
	if err != nil && !errors.Is(err, zael.ErrLeaseClosed) && x.limits.config.Report != nil {
		x.limits.config.Report(x.call, err)
	}
}

// used returns what was used, by what a meter has seen.
func (x *exchange) used(m *meter) Usage {
	switch x.call.API {
	case Listing:
		return Usage{}
	case Other:
		u := Usage{Input: x.estimate.Input, Output: (m.raw + 3) / 4}
		if p := x.call.passed; p != nil {
			u.Input = max(u.Input, (p.n.Load()+3)/4)
		}
		return u
	}
	u := m.report.usage()
	if m.reported && m.complete && (u.Input+u.Output > 0 || x.call.API == OpenAIMedia) {
		u.Reported = true
		x.limits.learned.learn(x.resource, x.call, u, m.scan.text)
		return u
	}
	if u.Input == 0 {
		u.Input = max(1, x.estimate.Input)
	}
	if x.call.Background {
		u.Output = max(u.Output, x.estimate.Output)
	}
	u.Output = max(u.Output, x.limits.learned.text(x.resource, m.scan.text), min((m.raw+1)/2, x.estimate.Output))
	return u
}
