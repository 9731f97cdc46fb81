package envoy

import (
	"context"
	"fmt"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/rls"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/leasetext"
)

// kuadrantName is the service that Kuadrant's limitador has beside Envoy's: for tokens of
// language models, which are reserved before a call and committed after it.
const kuadrantName = "kuadrant.service.ratelimit.v1.RateLimitService"

// A kuadrant is that service. Its messages are few, and made here rather than generated.
type kuadrant struct {
	service  *rls.Service
	leases   rls.Leases
	messages protoreflect.MessageDescriptors
}

func newKuadrant(s *rls.Service, env *serve.Env) (*kuadrant, error) {
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, message string) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		if message != "" {
			f.TypeName = &message
		}
		if name == "descriptors" {
			f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		return f
	}
	const (
		text    = descriptorpb.FieldDescriptorProto_TYPE_STRING
		number  = descriptorpb.FieldDescriptorProto_TYPE_UINT64
		yesNo   = descriptorpb.FieldDescriptorProto_TYPE_BOOL
		enum    = descriptorpb.FieldDescriptorProto_TYPE_ENUM
		message = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	)
	descriptors := field("descriptors", 2, message, ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor")
	all := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("kuadrantrls.proto"), Package: new("kuadrant.service.ratelimit.v1"), Syntax: new("proto3"),
		Dependency: []string{"envoy/service/ratelimit/v3/rls.proto", "envoy/extensions/common/ratelimit/v3/ratelimit.proto", "google/protobuf/duration.proto"},
		MessageType: []*descriptorpb.DescriptorProto{
			all("ReserveRequest", field("domain", 1, text, ""), descriptors, field("amount", 3, number, ""), field("ttl", 4, message, ".google.protobuf.Duration")),
			all("ReserveResponse", field("code", 1, enum, ".envoy.service.ratelimit.v3.RateLimitResponse.Code"), field("reservation_id", 2, text, "")),
			all("CommitRequest", field("domain", 1, text, ""), descriptors, field("reservation_id", 3, text, ""), field("actual_amount", 4, number, "")),
			all("CommitResponse", field("reservation_released", 1, yesNo, "")),
		},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kuadrantName, err)
	}
	secrets := func() []string { return env.Config().Leases.Keys }
	return &kuadrant{service: s, leases: &signedLeases{leasetext.NewSigner(env.Limiter), secrets}, messages: file.Messages()}, nil
}

// register adds the service to a server.
func (k *kuadrant) register(s *grpc.Server) {
	method := func(name string, answer func(context.Context, func(any) error) (proto.Message, error)) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			if intercept == nil {
				return answer(ctx, decode)
			}
			info := &grpc.UnaryServerInfo{Server: k, FullMethod: "/" + kuadrantName + "/" + name}
			return intercept(ctx, nil, info, func(ctx context.Context, _ any) (any, error) { return answer(ctx, decode) })
		}}
	}
	envoys := func(name string, answer func(context.Context, *pb.RateLimitRequest) (*pb.RateLimitResponse, error)) grpc.MethodDesc {
		return method(name, func(ctx context.Context, decode func(any) error) (proto.Message, error) {
			r := new(pb.RateLimitRequest)
			if err := decode(r); err != nil {
				return nil, err
			}
			return answer(ctx, r)
		})
	}
	s.RegisterService(&grpc.ServiceDesc{ServiceName: kuadrantName, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		envoys("CheckRateLimit", k.service.Check), envoys("Report", k.service.Report), method("Reserve", k.reserve), method("Commit", k.commit),
	}}, k)
}

// A message is one of the service's, by the names of its fields.
type message struct{ *dynamicpb.Message }

func (k *kuadrant) message(name protoreflect.Name) message {
	return message{dynamicpb.NewMessage(k.messages.ByName(name))}
}

func (m message) get(name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}

func (m message) set(name protoreflect.Name, v protoreflect.Value) {
	m.Set(m.Descriptor().Fields().ByName(name), v)
}

// reservation reads what both requests have.
func (m message) reservation(amount protoreflect.Name) (*rls.Reservation, error) {
	r := &rls.Reservation{Domain: m.get("domain").String(), Amount: m.get(amount).Uint()}
	list := m.get("descriptors").List()
	for i := range list.Len() {
		d := new(common.RateLimitDescriptor)
		if err := convert(list.Get(i).Message().Interface(), d); err != nil {
			return nil, err
		}
		r.Descriptors = append(r.Descriptors, d)
	}
	return r, nil
}

// convert copies a message into one of a generated type.
func convert(from, to proto.Message) error {
	b, err := proto.Marshal(from)
	if err != nil {
		return err
	}
	return proto.Unmarshal(b, to)
}

func (k *kuadrant) reserve(ctx context.Context, decode func(any) error) (proto.Message, error) {
	in, out := k.message("ReserveRequest"), k.message("ReserveResponse")
	if err := decode(in.Message); err != nil {
		return nil, err
	}
	r, err := in.reservation("amount")
	if err != nil {
		return nil, err
	}
	ttl := new(durationpb.Duration)
	if err := convert(in.get("ttl").Message().Interface(), ttl); err != nil {
		return nil, err
	}
	r.Hold = ttl.AsDuration()
	id, ok, err := k.service.Reserve(ctx, r, k.leases)
	if err != nil {
		return nil, err
	}
	code := pb.RateLimitResponse_OVER_LIMIT
	if ok {
		code = pb.RateLimitResponse_OK
	}
	out.set("code", protoreflect.ValueOfEnum(code.Number()))
	out.set("reservation_id", protoreflect.ValueOfString(id))
	return out.Message, nil
}

func (k *kuadrant) commit(ctx context.Context, decode func(any) error) (proto.Message, error) {
	in, out := k.message("CommitRequest"), k.message("CommitResponse")
	if err := decode(in.Message); err != nil {
		return nil, err
	}
	r, err := in.reservation("actual_amount")
	if err != nil {
		return nil, err
	}
	released, err := k.service.Commit(ctx, in.get("reservation_id").String(), r, k.leases)
	if err != nil {
		return nil, err
	}
	out.set("reservation_released", protoreflect.ValueOfBool(released))
	return out.Message, nil
}

// signedLeases are leases as signed text.
type signedLeases struct {
	signer  *leasetext.Signer
	secrets func() []string
}

// Text implements rls.Leases.
func (s *signedLeases) Text(ctx context.Context, d *zael.DetachedLease) (string, error) {
	keys, err := s.signer.Keys(ctx, s.secrets())
	if err != nil {
		return "", err
	}
	return keys.Text(d)
}

// Parse implements rls.Leases.
func (s *signedLeases) Parse(ctx context.Context, text string) (*zael.DetachedLease, error) {
	keys, err := s.signer.Keys(ctx, s.secrets())
	if err != nil {
		return nil, err
	}
	d, err := keys.Parse(text)
	if err != nil {
		return nil, rls.ErrNoReservation
	}
	return d, nil
}
