// Package xds takes rules of a rate limit service from a control plane such as Envoy
// Gateway's, by Envoy's discovery protocol: state of the world, over an aggregated stream.
package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	conf "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"go.yaml.in/yaml/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/rls/rules"
)

// typeURL is that of the rules of a domain.
const typeURL = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig"

// Options say where rules come from.
type Options struct {
	Server   string            // host and port of the control plane
	TLS      *tls.Config       // nil: the connection is not encrypted
	NodeID   string            // by which the control plane knows whose rules to send
	Metadata map[string]string // of the node
	Headers  map[string]string // of the stream

	MaxMessage           int           // bytes of an answer; 0 means rules.MaxBytes
	FirstRetry, MaxRetry time.Duration // the times between tries to connect, 0 means 10 s and 1 min
	Merge                bool          // several resources may have rules for the same domain
	Log                  *slog.Logger
}

// Follow takes rules from the control plane until ctx is done, and connects again when the
// stream breaks. accept is given each set of rules that is good; the rules before hold until
// then. Rules with mistakes are refused to the control plane, which is told why.
func Follow(ctx context.Context, o *Options, accept func(*rules.Rules)) error {
	secure := insecure.NewCredentials()
	if o.TLS != nil {
		secure = credentials.NewTLS(o.TLS)
	}
	most := o.MaxMessage
	if most <= 0 {
		most = rules.MaxBytes
	}
	conn, err := grpc.NewClient(o.Server, grpc.WithTransportCredentials(secure), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(most)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, PermitWithoutStream: false}))
	if err != nil {
		return err
	}
	defer conn.Close()
	first, last := o.FirstRetry, o.MaxRetry
	if first <= 0 {
		first = 10 * time.Second
	}
	if last <= 0 {
		last = max(first, time.Minute)
	}
	for tries := 0; ; tries++ {
		answered, err := o.stream(ctx, conn, accept)
		if ctx.Err() != nil {
			return nil
		}
		if answered {
			tries = 0
		}
		o.Log.Warn("the control plane is gone; the rules stay as they are", "server", o.Server, "error", err)
		if pause.Backoff(ctx, min(tries, 16), first, last) != nil {
			return nil
		}
	}
}

// stream takes rules from one stream, until it breaks. answered says that it has brought some.
func (o *Options) stream(ctx context.Context, conn *grpc.ClientConn, accept func(*rules.Rules)) (answered bool, err error) {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, metadata.New(o.Headers)))
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return false, err
	}
	request := &discovery.DiscoveryRequest{TypeUrl: typeURL, Node: o.node()}
	for {
		if err := stream.Send(request); err != nil {
			if _, received := stream.Recv(); received != nil { // which says why
				err = received
			}
			return answered, err
		}
		answer, err := stream.Recv()
		if err != nil {
			return answered, err
		}
		answered = true
		request = &discovery.DiscoveryRequest{TypeUrl: typeURL, Node: request.GetNode(), VersionInfo: request.GetVersionInfo(), ResponseNonce: answer.GetNonce()}
		read, err := o.read(answer)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				o.Log.Error("the rules of the control plane are refused", "version", answer.GetVersionInfo(), "error", strings.TrimRight(line, "\n"))
			}
			request.ErrorDetail = &rpc.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
			continue
		}
		request.VersionInfo = answer.GetVersionInfo()
		accept(read)
		o.Log.Info("rules of the control plane taken over", "version", answer.GetVersionInfo(), "rules", read.Len())
	}
}

func (o *Options) node() *core.Node {
	n := &core.Node{Id: o.NodeID, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{}}}
	for key, value := range o.Metadata {
		n.Metadata.Fields[key] = structpb.NewStringValue(value)
	}
	return n
}

// read reads the rules of an answer.
func (o *Options) read(answer *discovery.DiscoveryResponse) (*rules.Rules, error) {
	var files []rules.File
	var errs []error
	for i, resource := range answer.GetResources() {
		c := new(conf.RateLimitConfig)
		if err := resource.UnmarshalTo(c); err != nil {
			errs = append(errs, fmt.Errorf("resource %d: %w", i, err))
			continue
		}
		text, err := yaml.Marshal(file{c.GetDomain(), descriptors(c.GetDescriptors(), 1)})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files = append(files, rules.File{Name: c.GetName(), Text: text})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	read, _, err := rules.Read(files, rules.Options{Merge: o.Merge})
	return read, err
}

// A file is a resource in the form of package rules, which checks it.
type file struct {
	Domain      string       `yaml:"domain"`
	Descriptors []descriptor `yaml:"descriptors,omitempty"`
}

type descriptor struct {
	Key            string       `yaml:"key"`
	Value          string       `yaml:"value,omitempty"`
	RateLimit      *rateLimit   `yaml:"rate_limit,omitempty"`
	ShadowMode     bool         `yaml:"shadow_mode,omitempty"`
	QuotaMode      bool         `yaml:"quota_mode,omitempty"`
	DetailedMetric bool         `yaml:"detailed_metric,omitempty"`
	Descriptors    []descriptor `yaml:"descriptors,omitempty"`
}

type rateLimit struct {
	Unit      string    `yaml:"unit,omitempty"`
	Requests  uint32    `yaml:"requests_per_unit"`
	Unlimited bool      `yaml:"unlimited,omitempty"`
	Name      string    `yaml:"name,omitempty"`
	Replaces  []replace `yaml:"replaces,omitempty"`
}

type replace struct {
	Name string `yaml:"name"`
}

func descriptors(list []*conf.RateLimitDescriptor, depth int) (all []descriptor) {
	if depth > rules.MaxDepth+1 { // one more, which package rules names
		return nil
	}
	for _, d := range list {
		one := descriptor{
			Key: d.GetKey(), Value: d.GetValue(), ShadowMode: d.GetShadowMode(), QuotaMode: d.GetQuotaMode(), DetailedMetric: d.GetDetailedMetric(),
			Descriptors: descriptors(d.GetDescriptors(), depth+1),
		}
		if l := d.GetRateLimit(); l != nil {
			one.RateLimit = &rateLimit{Requests: l.GetRequestsPerUnit(), Unlimited: l.GetUnlimited(), Name: l.GetName()}
			if l.GetUnit() != conf.RateLimitUnit_UNKNOWN {
				one.RateLimit.Unit = strings.ToLower(l.GetUnit().String())
			}
			for _, r := range l.GetReplaces() {
				one.RateLimit.Replaces = append(one.RateLimit.Replaces, replace{r.GetName()})
			}
		}
		all = append(all, one)
	}
	return all
}
