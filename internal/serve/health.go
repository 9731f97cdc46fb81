package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// pingEvery is the least time between two questions to the store.
const pingEvery = time.Second

// health knows when the store last answered.
type health struct {
	ping func(context.Context) error // bounded by itself

	mu       sync.Mutex // held while the store is asked
	asked    time.Time
	answered time.Time // zero: never
	err      error     // of the last ping
}

// check asks the store whether it answers, unless that was done within pingEvery. Callers that
// come meanwhile share the answer.
func (h *health) check(ctx context.Context) (answered time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked.IsZero() || time.Since(h.asked) > pingEvery {
		h.err = h.ping(context.WithoutCancel(ctx)) // it is not the caller's alone
		h.asked = time.Now()
		if h.err == nil {
			h.answered = h.asked
		}
	}
	return h.answered, h.err
}

// serveAlive answers as long as the process does.
func serveAlive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]bool{"ok": true})
}

// A readiness is the answer of /readyz.
type readiness struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// StoreAge is how long ago the store last answered; null: it never did.
	StoreAge *float64 `json:"store_answered_seconds_ago"`
}

func (d *Daemon) serveReady(w http.ResponseWriter, r *http.Request) {
	answered, err := d.health.check(r.Context())
	state := readiness{Ready: true}
	if !answered.IsZero() {
		age := time.Since(answered).Round(time.Millisecond).Seconds()
		state.StoreAge = &age
	}
	if err != nil {
		state.Ready, state.Reason = false, "the store does not answer"
		d.log.WarnContext(r.Context(), "not ready", "error", err)
	}
	if d.notReady.Load() {
		state.Ready, state.Reason = false, errShutdown.Error()
	}
	status := http.StatusOK
	if !state.Ready {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, state)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, nil // flat structs: it does not happen
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
