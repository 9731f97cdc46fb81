package grpclimit

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/zeroae/zael"
)

// UnaryClient returns an interceptor of a client's unary calls. A call that is refused is
// not sent. With Config.MaxWait calls wait in line for their turn, which holds any number
// of clients to what a server admits.
func (l *Limits) UnaryClient() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) (err error) {
		call := Call{Method: method, Message: req}
		lease, err := l.acquire(ctx, call)
		if err != nil {
			return err
		}
		result := Result{Err: ErrPanicked}
		defer func() { l.end(ctx, call, lease, result) }()
		err = invoke(withLease(ctx, lease), method, req, reply, cc, opts...)
		if result.Err = err; err == nil {
			result.Reply = reply
		}
		return err
	}
}

// StreamClient returns an interceptor of a client's streams, as UnaryClient is of unary
// calls.
func (l *Limits) StreamClient() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s := &clientStream{limits: l, ctx: ctx, call: Call{Method: method}, endless: desc.ServerStreams}
		if !l.config.PerMessage {
			lease, err := l.acquire(ctx, s.call)
			if err != nil {
				return nil, err
			}
			s.lease = lease
			ctx = withLease(ctx, lease)
		}
		stream, err := open(ctx, desc, cc, method, opts...)
		if err != nil {
			s.end(err)
			return nil, err
		}
		s.ClientStream = stream
		if s.lease != nil {
			// Without a call of RecvMsg only the context tells that the stream has ended.
			s.stop = context.AfterFunc(ctx, func() { s.end(ctx.Err()) })
		}
		return s, nil
	}
}

// A clientStream is a client's stream as its caller sees it.
type clientStream struct {
	grpc.ClientStream

	limits  *Limits
	ctx     context.Context //nolint:containedctx // of the call
	call    Call
	lease   *zael.Lease // nil if messages are counted
	endless bool        // the server sends any number of messages
	stop    func() bool

	once           sync.Once
	mu             sync.Mutex
	sent, received int
}

// SendMsg implements grpc.ClientStream.
func (s *clientStream) SendMsg(m any) error {
	if s.lease == nil {
		if err := s.limits.take(s.ctx, Call{Method: s.call.Method, Message: m}); err != nil {
			return err
		}
	}
	err := s.ClientStream.SendMsg(m)
	if err == nil {
		s.count(&s.sent)
	}
	return err
}

// RecvMsg implements grpc.ClientStream.
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case errors.Is(err, io.EOF):
		s.end(nil)
	case err != nil:
		s.end(err)
	default:
		s.count(&s.received)
		if !s.endless {
			s.end(nil)
		}
	}
	return err
}

func (s *clientStream) count(n *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

// end settles the lease of the stream, once.
func (s *clientStream) end(err error) {
	if s.lease == nil {
		return
	}
	s.once.Do(func() {
		if s.stop != nil {
			s.stop()
		}
		s.mu.Lock()
		result := Result{Err: err, Sent: s.sent, Received: s.received}
		s.mu.Unlock()
		s.limits.end(s.ctx, s.call, s.lease, result)
	})
}
