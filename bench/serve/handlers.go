package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/api"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/stores"
)

// newDaemon returns the daemon, as zael serve without a configuration is, which listens.
func newDaemon(ctx context.Context, store string) (*serve.Daemon, error) {
	return serve.New(ctx, &serve.Options{
		Source: config.Source{Listen: "127.0.0.1:0", Store: store, LookupEnv: os.LookupEnv}, Log: io.Discard,
		Open:     func(ctx context.Context, url string) (serve.Store, error) { return stores.Open(ctx, url) },
		Handlers: serve.Handlers{API: api.New},
	})
}

// serveDaemon serves the daemon's API.
func serveDaemon(store string) (address net.Addr, stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	d, err := newDaemon(ctx, store)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return d.Addr(), func() error {
		cancel()
		return <-ended
	}, nil
}

// serveBare serves the bare handler.
func serveBare() (address net.Addr, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it lives as long as the process
	if err != nil {
		return nil, nil, err
	}
	s := &http.Server{Handler: http.HandlerFunc(bare), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(listener) }()
	return listener.Addr(), s.Close, nil
}

// A bareRequest is what the bare handler reads.
type bareRequest struct {
	Entity   string           `json:"entity"`
	Resource string           `json:"resource"`
	Consume  map[string]int64 `json:"consume"`
	Limits   []string         `json:"limits"`
	Cascade  bool             `json:"cascade"`
	MaxWait  string           `json:"max_wait"`
	Lease    bool             `json:"lease"`
}

// A bareAnswer is what it answers: of the same form, with the same number of statuses.
type bareAnswer struct {
	Admitted bool          `json:"admitted"`
	Degraded bool          `json:"degraded"`
	Bypassed bool          `json:"bypassed"`
	Entity   string        `json:"entity_id"`
	Resource string        `json:"resource"`
	Waited   float64       `json:"waited_seconds"`
	Lease    *string       `json:"lease"`
	Limits   []zael.Status `json:"limits"`
}

// bare is a handler as net/http and encoding/json make it easy to write: it parses and checks
// the same body, and answers in the same form. It has no store, and compiles no limit.
func bare(w http.ResponseWriter, r *http.Request) {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	var in bareRequest
	err := decoder.Decode(&in)
	if _, end := decoder.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("more after the body")
	}
	if err == nil && (in.Entity == "" || in.Resource == "" || len(in.Limits) == 0) {
		err = errors.New("a member is missing")
	}
	out := bareAnswer{Admitted: true, Entity: in.Entity, Resource: in.Resource}
	for i, l := range []zael.Limit{zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000)} {
		n, ok := in.Consume[l.Name]
		if err == nil && (!ok || n < 0 || i >= len(in.Limits) || in.Limits[i] == "") {
			err = fmt.Errorf("no amount of %s", l.Name)
		}
		out.Limits = append(out.Limits, zael.Status{Entity: in.Entity, Resource: in.Resource, Limit: l, Available: l.Burst - n, Requested: n})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// A row is a load: the limit of requests, and how many keys they have.
type row struct {
	name  string
	rpm   string
	keys  int
	least float64 // share that is refused at least
}

func rows() []row {
	return []row{
		{name: "10,000 keys, all admitted", rpm: "rpm=1000000000/min", keys: 10_000},
		{name: "one key, all admitted", rpm: "rpm=1000000000/min", keys: 1},
		{name: "one key, 99 % refused", rpm: "rpm=1/min", keys: 1, least: 0.99},
	}
}

// body returns the body of a request of a row.
func (r *row) body(key int) []byte {
	return fmt.Appendf(nil, `{"entity":"key-%d","resource":"gpt-4","consume":{"rpm":1,"tpm":500},"limits":["%s","tpm=500000000000/min"],"cascade":false,"max_wait":"0s","lease":false}`,
		key, r.rpm)
}
