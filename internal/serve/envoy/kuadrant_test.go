package envoy_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// call calls a method of Kuadrant's service with a message as it is on the wire, and returns
// the answer's fields by number: numbers, and text.
func call(t *testing.T, conn *grpc.ClientConn, method string, request []byte) (numbers map[protowire.Number]uint64, texts map[protowire.Number]string) {
	t.Helper()
	in, out := new(emptypb.Empty), new(emptypb.Empty)
	in.ProtoReflect().SetUnknown(request)
	if err := conn.Invoke(t.Context(), "/kuadrant.service.ratelimit.v1.RateLimitService/"+method, in, out); err != nil {
		t.Fatal(err)
	}
	numbers, texts = map[protowire.Number]uint64{}, map[protowire.Number]string{}
	for b := []byte(out.ProtoReflect().GetUnknown()); len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			numbers[number], n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			texts[number] = string(v)
		default:
			t.Fatalf("field %d is of kind %d", number, kind)
		}
		b = b[n:]
	}
	return numbers, texts
}

// kuadrantRequest is a request of the domain and descriptor that request has.
func kuadrantRequest(t *testing.T) []byte {
	t.Helper()
	d, err := proto.Marshal(request("user").GetDescriptors()[0])
	if err != nil {
		t.Fatal(err)
	}
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "d")
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), d)
}

// Tokens are reserved and committed, as Kuadrant's service has it on the wire.
func TestKuadrant(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	conn := r.dial(insecure.NewCredentials())
	reserve := protowire.AppendVarint(protowire.AppendTag(kuadrantRequest(t), 3, protowire.VarintType), 2)
	numbers, texts := call(t, conn, "Reserve", reserve)
	if numbers[1] != uint64(ok.Number()) || texts[2] == "" {
		t.Fatalf("Reserve: got %v and %q", numbers, texts)
	}
	id := texts[2]
	if numbers, _ := call(t, conn, "Reserve", reserve); numbers[1] != uint64(over.Number()) {
		t.Errorf("Reserve again: got %v, want OVER_LIMIT", numbers)
	}
	if got := ask(t, conn, "user"); got != over {
		t.Errorf("while all is reserved: got %v", got)
	}
	commit := protowire.AppendString(protowire.AppendTag(kuadrantRequest(t), 3, protowire.BytesType), id)
	commit = protowire.AppendVarint(protowire.AppendTag(commit, 4, protowire.VarintType), 1)
	if numbers, _ := call(t, conn, "Commit", commit); numbers[1] != 1 {
		t.Errorf("Commit: got %v, want that the reservation is released", numbers)
	}
	if first, second := ask(t, conn, "user"), ask(t, conn, "user"); first != ok || second != over {
		t.Errorf("after 1 of 2 was used: got %v and %v, want OK and OVER_LIMIT", first, second)
	}
	// A text that this service has not written releases nothing.
	forged := protowire.AppendString(protowire.AppendTag(kuadrantRequest(t), 3, protowire.BytesType), "x"+id)
	if numbers, _ := call(t, conn, "Commit", forged); numbers[1] != 0 {
		t.Errorf("Commit of a forged id: got %v", numbers)
	}
}
