package dynamostore_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// canned answers every write at once as if it had been applied.
type canned struct {
	body []byte
	crc  string
}

func newCanned(item string) canned {
	body := []byte(`{"Attributes":` + item + `}`)
	return canned{body, fmt.Sprint(crc32.ChecksumIEEE(body))}
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{
			"Date": {time.Now().UTC().Format(http.TimeFormat)}, "X-Amzn-Requestid": {"1"}, "X-Amz-Crc32": {c.crc},
			"Content-Type": {"application/x-amz-json-1.0"},
		},
		Body: io.NopCloser(bytes.NewReader(c.body)), ContentLength: int64(len(c.body)),
	}, nil
}

// BenchmarkCPU is what an acquire costs this process, network and engine left
// out, beside a call of the library that asks for as much.
func BenchmarkCPU(b *testing.B) {
	c := dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://127.0.0.1:1"),
		Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
		HTTPClient: &http.Client{Transport: newCanned(`{"PK":{"S":"E#e"},"SK":{"S":"B#r"},"m_rpm":{"N":"1234567890"},` +
			`"d_rpm":{"S":"1:1000000/60s^1000000@0.0"},"c_rpm":{"N":"123"},"e":{"N":"17"},"v":{"N":"17"},"b":{"S":"0123456789abcdef"},"o":{"S":"0123456789abcdef"},` +
			`"ttl":{"N":"1800000000"},"GSI1PK":{"S":"R#r#3"},"GSI1SK":{"S":"e"}}`)},
	})
	s, n := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} },
		func(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }
	b.Run("UpdateItem", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := c.UpdateItem(b.Context(), &dynamodb.UpdateItemInput{
				TableName: aws.String("t"), Key: map[string]types.AttributeValue{"PK": s("E#e"), "SK": s("B#r")},
				ConditionExpression: aws.String("(attribute_not_exists(#m0) OR (#d0 = :d0 AND #m0 <= :h0))" +
					" AND (attribute_not_exists(#o) OR #o <> :id) AND (attribute_not_exists(#ttl) OR #ttl <= :ttl)"),
				UpdateExpression:         aws.String("SET #m0 = :v0, #o = :id, #ttl = :ttl ADD #v :one, #c0 :c0, #e :e"),
				ExpressionAttributeNames: map[string]string{"#m0": "m_rpm", "#d0": "d_rpm", "#o": "o", "#c0": "c_rpm", "#e": "e", "#v": "v", "#ttl": "ttl"},
				ExpressionAttributeValues: map[string]types.AttributeValue{
					":d0": s("1:1000000/60s^1000000@0.0"), ":h0": n("123456789"), ":id": s("0123456789abcdef"), ":v0": n("123456789"),
					":c0": n("1"), ":e": n("1"), ":one": n("1"), ":ttl": n("1800000000"),
				},
				ReturnValues: types.ReturnValueAllNew,
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	store, err := dynamostore.New(c, "t", nil)
	opened(b, store, err)
	d := define(1_000_000, 1_000_000, time.Minute)
	b.Run("Take", func(b *testing.B) {
		b.ReportAllocs()
		debits := []zael.Debit{{Key: zael.Key{Entity: "e", Resource: "r"}, Charges: []zael.Charge{ask("rpm", d, 1)}}}
		for b.Loop() {
			if _, err := store.Take(b.Context(), time.Now(), 0, debits); err != nil {
				b.Fatal(err)
			}
		}
	})
	l, err := zael.New(store, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Allow", func(b *testing.B) {
		b.ReportAllocs()
		req := zael.Request{
			Entity: "e", Resource: "r", Consume: zael.Amounts{"rpm": 1},
			Limits: []zael.Limit{{Name: "rpm", RefillAmount: 1_000_000, RefillPeriod: time.Minute, Burst: 1_000_000}},
		}
		for b.Loop() {
			if err := l.Allow(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRefusal is a refusal from memory.
func BenchmarkRefusal(b *testing.B) {
	engine, _ := newClient(b)
	s, err := dynamostore.New(engine, newTable(b, engine), nil)
	opened(b, s, err)
	l, err := zael.New(s, &zael.Config{Timeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	req := zael.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerMinute("rpm", 1)}, Consume: zael.Amounts{"rpm": 1}}
	for err == nil {
		err = l.Allow(b.Context(), req)
	}
	if !errors.Is(err, zael.ErrExceeded) {
		b.Fatal(err)
	}
	begun := s.Stats().Writes
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Allow(b.Context(), req); err != nil && !errors.Is(err, zael.ErrExceeded) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(s.Stats().Writes-begun)/b.Elapsed().Seconds(), "calls/s")
}
