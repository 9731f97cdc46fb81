package dynamolocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

const (
	patience = 2 * time.Minute       // for the first answer; a busy machine may take its time
	every    = 20 * time.Millisecond // a look at what is waited for
)

// errSilent says that patience is at its end.
var errSilent = errors.New("2 minutes have passed")

// A run is a process of the engine that this one started.
type run struct {
	cmd   *exec.Cmd
	log   func() string // the end of what it wrote
	ended chan struct{} // closed when it has ended
}

// begin starts cmd, and calls after when it has ended.
func begin(cmd *exec.Cmd, log func() string, after func()) (*run, error) {
	r := &run{cmd: cmd, log: log, ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		after()
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // ProcessState says it all
		after()
		close(r.ended)
	}()
	return r, nil
}

// await returns when it answers.
func (r *run) await(ctx context.Context, p *program) error {
	err := await(ctx, p.endpoint(), p.mark, r.ended)
	if err == nil {
		return nil
	}
	log := r.log()
	select {
	case <-r.ended:
	default:
		return fmt.Errorf("%w; %s", err, excerpt(log))
	}
	log = r.log()
	switch {
	case strings.Contains(log, "Failed to bind to"):
		return fmt.Errorf("%w: %d", errPortTaken, p.port)
	case strings.Contains(log, "UnsupportedClassVersionError"):
		return fmt.Errorf("%w: %s is too old: it runs on Java 17 or newer; on Debian install openjdk-17-jre-headless", ErrMissing, p.Java)
	}
	return fmt.Errorf("DynamoDB Local ended at its start (%s); %s", r.cmd.ProcessState, excerpt(log))
}

// end ends it and waits until it has ended. What it keeps on disk it has written
// before it answered.
func (r *run) end() {
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// await returns when the engine with that mark answers at endpoint; an error, when
// it has ended or that takes too long.
func await(ctx context.Context, endpoint, mark string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSilent)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !answers(ctx, endpoint, mark) {
		select {
		case <-ended:
			return errors.New("DynamoDB Local has ended")
		case <-ctx.Done():
			return fmt.Errorf("waiting for DynamoDB Local to answer at %s: %w", endpoint, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// Answers tells whether a DynamoDB, any, lists its tables at endpoint within 10 s.
func Answers(ctx context.Context, endpoint string) bool { return answers(ctx, endpoint, "") }

// answers tells whether the engine with that mark does so; "": any.
func answers(ctx context.Context, endpoint, mark string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader("{}"))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810.ListTables")
	// It wants a signature, and does not check it.
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=zael/20250101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
	if mark != "" {
		req.Header.Set("Origin", mark)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && (mark == "" || resp.Header.Get("Access-Control-Allow-Origin") == mark)
}
