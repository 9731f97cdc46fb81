package rls

import (
	"math"
	"strconv"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/httpedge"
)

// answer returns the response to a call that is decided.
func (s *Service) answer(c *call) *pb.RateLimitResponse {
	r := &pb.RateLimitResponse{OverallCode: pb.RateLimitResponse_OK, Statuses: make([]*pb.RateLimitResponse_DescriptorStatus, len(c.descriptors))}
	if c.over {
		r.OverallCode = pb.RateLimitResponse_OVER_LIMIT
	}
	var nearest *pb.RateLimitResponse_DescriptorStatus
	for i := range c.descriptors {
		st := s.statusOf(c, &c.descriptors[i])
		r.Statuses[i] = st
		if st.GetCurrentLimit() == nil {
			continue
		}
		over := st.GetCode() == pb.RateLimitResponse_OVER_LIMIT
		if nearest == nil || over && nearest.GetCode() == pb.RateLimitResponse_OK ||
			over == (nearest.GetCode() == pb.RateLimitResponse_OVER_LIMIT) && st.GetLimitRemaining() < nearest.GetLimitRemaining() {
			nearest = st
		}
	}
	if nearest != nil {
		r.ResponseHeadersToAdd = s.options.Headers.of(nearest)
	}
	return r
}

// statusOf returns the status of a descriptor of a call.
func (s *Service) statusOf(c *call, l *descriptor) *pb.RateLimitResponse_DescriptorStatus {
	st := &pb.RateLimitResponse_DescriptorStatus{Code: pb.RateLimitResponse_OK}
	switch {
	case l.rule == nil:
		return st
	case l.rule.Unlimited:
		st.LimitRemaining = math.MaxUint32
		return st
	}
	st.CurrentLimit = &pb.RateLimitResponse_RateLimit{
		Name: l.rule.Name, RequestsPerUnit: l.rule.Requests, Unit: pb.RateLimitResponse_RateLimit_Unit(l.rule.Unit),
	}
	refuses := !s.shadow(l.rule) && (!s.quota(l.rule) || c.over && !s.options.NeverRefuse)
	if l.exceeded && refuses {
		st.Code = pb.RateLimitResponse_OVER_LIMIT
	}
	if !l.known {
		return st
	}
	if !l.exceeded || l.action != take && l.action != takeAlone {
		st.LimitRemaining = uint32(min(max(0, l.status.Available), math.MaxUint32))
	}
	st.DurationUntilReset = durationpb.New(time.Duration(httpedge.WholeSeconds(l.untilReset())) * time.Second)
	return st
}

// untilReset returns the time until the limit of a descriptor is full again, or, if it is exceeded,
// until it admits again.
func (l *descriptor) untilReset() time.Duration {
	st := &l.status
	switch {
	case !l.exceeded, st.Limit.Kind() != zael.KindRate:
		return st.FullAfter
	case l.action == charge: // into debt, which has to refill, and a token more
		return untilOne(st)
	case st.RetryAfter == zael.Never:
		return st.FullAfter
	}
	return st.RetryAfter
}

// untilOne returns the time until a rate that is in debt has a token.
func untilOne(st *zael.Status) time.Duration {
	missing := float64(1-st.Available) / float64(st.Limit.RefillAmount)
	return time.Duration(min(missing*float64(st.Limit.RefillPeriod), float64(st.FullAfter)))
}

// of returns the headers of a status.
func (h Headers) of(st *pb.RateLimitResponse_DescriptorStatus) (list []*core.HeaderValue) {
	for _, each := range []struct {
		name  string
		value int64
	}{
		{h.Limit, int64(st.GetCurrentLimit().GetRequestsPerUnit())},
		{h.Remaining, int64(st.GetLimitRemaining())},
		{h.Reset, st.GetDurationUntilReset().GetSeconds()},
	} {
		if each.name != "" {
			list = append(list, &core.HeaderValue{Key: each.name, Value: strconv.FormatInt(each.value, 10)})
		}
	}
	return list
}
