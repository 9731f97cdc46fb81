package stack_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/stack"
)

// answering are services that answer everything alike, with an error code in the
// language of each; status 0 is silent.
func answering(t *testing.T, status int, code string) aws.Config {
	t.Helper()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status == 0 {
			select {
			case <-over:
			case <-r.Context().Done():
			}
			return
		}
		w.WriteHeader(status)
		switch {
		case code == "":
			_, _ = w.Write([]byte("<html>"))
		case r.Header.Get("X-Amz-Target") != "":
			_, _ = fmt.Fprintf(w, `{"__type": "com.amazon#%s", "message": "because"}`, code)
		default:
			_, _ = fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code><Message>because</Message></Error></ErrorResponse>", code)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	c := configOf(t, server.URL)
	c.RetryMaxAttempts = 1
	return c
}

// Whether another time may help is told by the error and not by its text.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	refused := answering(t, 500, "")
	refused.BaseEndpoint = aws.String("http://127.0.0.1:1")
	for name, c := range map[string]struct {
		config aws.Config
		want   bool
	}{
		"throttled":      {answering(t, 400, "Throttling"), true},
		"rate exceeded":  {answering(t, 429, ""), true},
		"failed":         {answering(t, 500, "InternalFailure"), true},
		"away":           {answering(t, 503, ""), true},
		"silent":         {answering(t, 0, ""), true},
		"refused":        {refused, true},
		"no answer":      {answering(t, 200, ""), true},
		"denied":         {answering(t, 403, "AccessDenied"), false},
		"wrong":          {answering(t, 400, "ValidationError"), false},
		"token expired":  {answering(t, 403, "ExpiredToken"), false},
		"other language": {answering(t, 404, ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := stack.New(c.config, "demo")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if name != "silent" {
				ctx, cancel = context.WithCancel(t.Context())
			}
			defer cancel()
			_, listing := stack.List(ctx, c.config)
			_, status := s.Status(ctx, nil)
			_, apply := s.Apply(ctx, stack.Change{Options: bare()})
			_, check := s.Check(ctx)
			for what, err := range map[string]error{"List": listing, "Status": status, "Apply": apply, "Delete": s.Delete(ctx, nil), "Check": check} {
				if err == nil || errors.Is(err, zael.ErrUnavailable) != c.want {
					t.Errorf("%s: got %v, want unavailable %t", what, err, c.want)
				}
			}
		})
	}
}

// A call that AWS does not answer ends, and earlier than what waits for CloudFormation.
func TestSilenceEnds(t *testing.T) {
	t.Parallel()
	for in, want := range map[any]time.Duration{
		&struct{}{}:          30 * time.Second,
		&s3.PutObjectInput{}: 10 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			silent := middleware.InitializeHandlerFunc(func(ctx context.Context, _ middleware.InitializeInput) (out middleware.InitializeOutput, md middleware.Metadata, err error) {
				<-ctx.Done()
				return out, md, ctx.Err()
			})
			begin := time.Now()
			_, _, err := stack.OneCall(t.Context(), middleware.InitializeInput{Parameters: in}, silent)
			if took := time.Since(begin); !errors.Is(err, zael.ErrUnavailable) || took != want {
				t.Errorf("a silent call: got %v after %v, want unavailable after %v", err, took, want)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, _, err := stack.OneCall(ctx, middleware.InitializeInput{}, silent); !errors.Is(err, context.Canceled) || errors.Is(err, zael.ErrUnavailable) {
				t.Errorf("whose caller leaves: got %v, want context.Canceled alone", err)
			}
		})
	}
}

// No credentials are no fault of AWS's, although the search for them ends in a call.
func TestNoCredentials(t *testing.T) {
	t.Parallel()
	failed := middleware.InitializeHandlerFunc(func(context.Context, middleware.InitializeInput) (out middleware.InitializeOutput, md middleware.Metadata, err error) {
		return out, md, fmt.Errorf("get identity: %w", &smithy.OperationError{ServiceID: "ec2imds", OperationName: "GetMetadata", Err: context.DeadlineExceeded})
	})
	_, _, err := stack.OneCall(t.Context(), middleware.InitializeInput{}, failed)
	if err == nil || errors.Is(err, zael.ErrUnavailable) {
		t.Fatalf("got %v, want an error that is not unavailable", err)
	}
	contains(t, "error", err.Error(), "AWS_PROFILE", "AWS_ACCESS_KEY_ID")
}

// A region that cannot be one is told before anything is asked.
func TestRegion(t *testing.T) {
	t.Parallel()
	for region, ok := range map[string]bool{
		"eu-central-1": true, "us-gov-west-1": true, "cn-north-1": true, "eusc-de-east-1": true, "us-isob-east-1": true,
		"": false, "eu central": false, "nonsense": false, "eu-central": false, "eu-central-1.example.com": false, "EU-CENTRAL-1": false,
	} {
		_, err := stack.New(aws.Config{Region: region}, "demo")
		var v *zael.ValidationError
		if ok && err != nil || !ok && (!errors.As(err, &v) || v.Field != "region") {
			t.Errorf("region %q: got %v, want valid %t", region, err, ok)
		}
		if ok {
			continue
		}
		if _, err := stack.List(t.Context(), aws.Config{Region: region}); !errors.As(err, &v) {
			t.Errorf("List in region %q: got %v, want a *ValidationError", region, err)
		}
	}
	for region, ok := range map[string]bool{"local": true, "eu-central-1": true, "": false, "eu central": false, "-a": false} {
		if _, err := stack.New(aws.Config{Region: region, BaseEndpoint: aws.String("http://127.0.0.1:1")}, "demo"); (err == nil) != ok {
			t.Errorf("region %q of an emulator: got %v, want valid %t", region, err, ok)
		}
	}
}
