package grpclimit

import (
	"context"

	"google.golang.org/grpc"

	"github.com/zeroae/zael"
)

// UnaryServer returns an interceptor of a server's unary calls.
func (l *Limits) UnaryServer() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
		call := Call{Method: info.FullMethod, Message: req}
		lease, err := l.acquire(ctx, call)
		if err != nil {
			setPushback(ctx, err)
			return nil, err
		}
		result := Result{Err: ErrPanicked, ReceivedByServer: true}
		defer func() { l.end(ctx, call, lease, result) }()
		reply, err = handler(withLease(ctx, lease), req)
		if result.Err = err; err == nil {
			result.Reply = reply
		}
		return reply, err
	}
}

// StreamServer returns an interceptor of a server's streams.
func (l *Limits) StreamServer() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		s := &serverStream{ServerStream: stream, limits: l, ctx: stream.Context(), method: info.FullMethod}
		if l.config.PerMessage {
			return handler(srv, s)
		}
		call := Call{Method: info.FullMethod}
		lease, err := l.acquire(s.ctx, call)
		if err != nil {
			setPushback(s.ctx, err)
			return err
		}
		s.lease = lease
		s.ctx = withLease(s.ctx, lease)
		err = ErrPanicked
		defer func() {
			l.end(stream.Context(), call, lease, Result{Err: err, Sent: s.sent, Received: s.received, ReceivedByServer: true})
		}()
		err = handler(srv, s)
		return err
	}
}

// A serverStream is a server's stream as its handler sees it.
type serverStream struct {
	grpc.ServerStream

	limits         *Limits
	ctx            context.Context //nolint:containedctx // of the stream, which has it too
	method         string
	lease          *zael.Lease // nil if messages are counted
	sent, received int         // each by one goroutine of the handler
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ServerStream.
func (s *serverStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.sent++
	}
	return err
}

// RecvMsg implements grpc.ServerStream.
func (s *serverStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	s.received++
	if s.lease != nil {
		return nil
	}
	err := s.limits.take(s.ctx, Call{Method: s.method, Message: m})
	if err != nil {
		setPushback(s.ctx, err)
	}
	return err
}
