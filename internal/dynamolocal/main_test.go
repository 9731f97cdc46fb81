package dynamolocal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/dynamolocal"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
	"github.com/zeroae/zael/internal/testrig/needs"
)

// holderVariable makes the test binary a process that runs an engine until it is
// killed, or the line that it reads ends.
const holderVariable = "ZAEL_DYNAMOLOCAL_HOLDER"

// engine stays unused: each test here starts its own.
var engine dynamotest.Engine

func TestMain(m *testing.M) {
	if os.Getenv(holderVariable) != "" {
		if err := hold(); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	engine.Main(m)
}

func hold() error {
	s, err := dynamolocal.Start(context.Background(), dynamolocal.Options{})
	if err != nil {
		return err
	}
	fmt.Println(s.PID(), s.Endpoint())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

// need returns where the jars are. Where the engine is missing t fails.
func need(t *testing.T) string {
	t.Helper()
	needs.Engine(t)
	_, err := dynamolocal.FindJava()
	dir, errFetch := dynamolocal.Fetch(t.Context(), "", nil)
	if err := errors.Join(err, errFetch); err != nil {
		t.Fatal(err)
	}
	return dir
}

// call calls an operation of DynamoDB, and wants it to work.
func call(t *testing.T, endpoint, operation, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=k/20250101/r/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: got status %s, %s, %v, want 200", operation, resp.Status, text, err)
	}
	return string(text)
}

const createTable = `{"TableName":"Table","BillingMode":"PAY_PER_REQUEST",
	"AttributeDefinitions":[{"AttributeName":"k","AttributeType":"S"}],"KeySchema":[{"AttributeName":"k","KeyType":"HASH"}]}`

// eventually waits until cond holds. What it waits for in vain is the last line of the log.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	t.Log("until", what)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		<-tick.C
	}
}

// fakeJava is a program that does this instead.
func fakeJava(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "java")
	writeProgram(t, path, text)
	return path
}

// writeProgram has another process write it: a file that this one has open to
// write cannot be run, nor while a child that is just being started has it too.
func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `rm -f "$1" && cat >"$1"`, "sh", path)
	cmd.Stdin = strings.NewReader("#!/bin/sh\n" + text + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("writing %s: %v: %s", path, err, out)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s: got %q, want it to contain %q", what, text, part)
		}
	}
}
