package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// ErrSlotsLost means that the slots of a lease may be others': they were not renewed in time.
var ErrSlotsLost = errors.New("zael: the slots of the lease are lost: they were not renewed in time")

// A Lease is what an acquire took, until it is ended, once, on any server of the store. Its methods
// may be called concurrently. If nobody ends it, what was taken stays taken; slots are free when
// nobody renews them. The zero value and nil are closed.
type Lease struct {
	client    *Client
	admission Admission
	stored    bool // the limits are stored ones: names that are not known are ignored

	changing sync.Mutex // held while it takes more, or ends

	mu     sync.Mutex
	text   string
	used   zael.Amounts // as recorded; nil: nothing
	closed bool
}

// Lease returns the lease of a text that another program may have got by an acquire. It makes no
// call, so what the lease took is not known here.
func (c *Client) Lease(text string) *Lease { return &Lease{client: c, text: text, stored: true} }

// Text returns the lease as a text, by which any program ends it that has a token for its entity.
// It is a secret: it travels in bodies, never in URLs.
func (l *Lease) Text() string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}

// Admission returns what the acquire was told; it is zero for a lease of a text.
func (l *Lease) Admission() Admission {
	if l == nil {
		return Admission{}
	}
	return l.admission
}

// none reports whether no Client has given the lease.
func (l *Lease) none() bool { return l == nil || l.client == nil }

var errNoLease = fmt.Errorf("%w: it is nil or the zero value: use one that Acquire returned", zael.ErrLeaseClosed)

// Settle records what was really used, by limit; limits that it does not name keep what was
// taken. It makes no call: Commit sends it. Errors: a [*zael.ValidationError], of slots too, which are
// not settled, and zael.ErrLeaseClosed.
func (l *Lease) Settle(used zael.Amounts) error {
	if l.none() {
		return errNoLease
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return zael.ErrLeaseClosed
	}
	if err := l.checkUsed(used); err != nil {
		return err
	}
	if l.used == nil {
		l.used = zael.Amounts{}
	}
	maps.Copy(l.used, used)
	return nil
}

func (l *Lease) checkUsed(used zael.Amounts) error {
	known := 0
	for name, n := range used {
		i := slices.IndexFunc(l.admission.Limits, func(s zael.Status) bool { return s.Limit.Name == name })
		switch {
		case n < 0 || n > bucket.MaxAmount:
			return &zael.ValidationError{Field: "Settle " + name, Value: n, Reason: fmt.Sprintf("is not in 0 to %d tokens", bucket.MaxAmount)}
		case i < 0 && !l.stored && !l.admission.Degraded:
			return notOfLease(name, "")
		case i >= 0 && l.admission.Limits[i].Limit.Kind() == zael.KindSlots:
			return &zael.ValidationError{Field: "Settle " + name, Value: n, Reason: "are slots, which are not settled: the end of the lease gives them back"}
		case i >= 0:
			known++
		}
	}
	if len(l.admission.Limits) > 0 && known == 0 {
		for name := range used {
			return notOfLease(name, ", and no other name is")
		}
	}
	return nil
}

func notOfLease(name, more string) error {
	return &zael.ValidationError{Field: "Settle", Value: name, Reason: "is not the name of a limit of the lease" + more}
}

// Commit ends the lease: what Settle recorded is charged in place of what was taken. It works after
// ctx was cancelled. A lost answer is asked for again; after a [*zael.UnavailableError] the lease may
// have ended, and Commit can be called again. If the lease was ended before, by this Lease, it
// returns zael.ErrLeaseClosed; if by another, that first end stands and is no error.
func (l *Lease) Commit(ctx context.Context) error {
	return l.finish(ctx, false)
}

// Rollback ends the lease and gives back what was taken and has not refilled yet. After Commit or
// Rollback it does nothing, so that it can be deferred. Errors are those of Commit.
func (l *Lease) Rollback(ctx context.Context) error {
	if err := l.finish(ctx, true); !errors.Is(err, zael.ErrLeaseClosed) {
		return err
	}
	return nil
}

func (l *Lease) finish(ctx context.Context, undo bool) error {
	if l.none() {
		return errNoLease
	}
	l.mu.Lock()
	end := zael.Ending{Verb: zael.LeaseCommit}
	if len(l.used) > 0 {
		end = zael.Ending{Verb: zael.LeaseSettle, Amounts: l.used}
	}
	if undo {
		end = zael.Ending{Verb: zael.LeaseRollback}
	}
	l.mu.Unlock()
	_, err := l.End(ctx, end)
	return err
}

// fail ends the lease after the work has failed. It does nothing if it was ended.
func (l *Lease) fail(ctx context.Context) error {
	l.mu.Lock()
	recorded := len(l.used) > 0
	l.mu.Unlock()
	if err := l.finish(ctx, !recorded); !errors.Is(err, zael.ErrLeaseClosed) {
		return err
	}
	return nil
}

// An endBody is the body of what ends a lease.
type endBody struct {
	Lease   string         `json:"lease"`
	Used    zael.Amounts   `json:"used,omitempty"`
	Amounts zael.Amounts   `json:"amounts,omitempty"`
	Also    []partEndsBody `json:"also,omitempty"`
}

type partEndsBody struct {
	Entity   string       `json:"entity"`
	Resource string       `json:"resource"`
	Used     zael.Amounts `json:"used,omitempty"`
	Amounts  zael.Amounts `json:"amounts,omitempty"`
}

type endedBody struct {
	Verb     zael.LeaseVerb `json:"verb"`
	Used     zael.Amounts   `json:"used"`
	Also     []endedPart    `json:"also"`
	Repeated bool           `json:"repeated"`
}

type endedPart struct {
	Entity   string       `json:"entity_id"`
	Resource string       `json:"resource"`
	Used     zael.Amounts `json:"used"`
}

// End ends the lease in the way that e says, whatever was recorded, and returns how it has
// ended: a lease that had ended before has Repeated. It works after ctx was cancelled. Errors are those
// of Commit, zael.ErrLeaseExpired if the lease is too old, and a [*zael.ValidationError].
func (l *Lease) End(ctx context.Context, e zael.Ending) (zael.Ended, error) {
	if l.none() {
		return zael.Ended{}, errNoLease
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.Lock()
	text, closed := l.text, l.closed
	l.mu.Unlock()
	if closed {
		return zael.Ended{}, zael.ErrLeaseClosed
	}
	switch e.Verb {
	case zael.LeaseCommit, zael.LeaseRollback, zael.LeaseSettle, zael.LeaseRelease:
	default:
		return zael.Ended{}, &zael.ValidationError{Field: "Ending.Verb", Value: string(e.Verb), Reason: "is not commit, rollback, settle or release"}
	}
	body := endBody{Lease: text}
	settles := e.Verb == zael.LeaseSettle
	if settles {
		body.Used = e.Amounts
	} else {
		body.Amounts = e.Amounts
	}
	for i := range e.Also {
		part := partEndsBody{Entity: e.Also[i].Entity, Resource: e.Also[i].Resource, Amounts: e.Also[i].Amounts}
		if settles {
			part.Used, part.Amounts = part.Amounts, nil
		}
		body.Also = append(body.Also, part)
	}
	var out endedBody
	err := l.call(context.WithoutCancel(ctx), string(e.Verb), body, "", &out)
	if err != nil {
		return zael.Ended{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	ended := zael.Ended{Verb: out.Verb, Used: out.Used, Repeated: out.Repeated}
	for _, p := range out.Also {
		ended.Also = append(ended.Also, zael.PartAmount{Entity: p.Entity, Resource: p.Resource, Amounts: p.Used})
	}
	return ended, nil
}

// call makes a call about the lease, which may be repeated: renewals and ends are, by their nature,
// and a consume by its key.
func (l *Lease) call(ctx context.Context, verb string, body any, key string, out any) error {
	return l.client.do(ctx, &call{
		method: http.MethodPost, path: "/v1/leases/" + verb, body: body, key: key, repeats: verb != "consume" || key != "",
		entity: l.admission.Entity, resource: l.admission.Resource,
	}, out)
}

// Consume takes more, from all limits named in amounts or from none; the lease then ends all
// that it took. With a key (see Request.IdempotencyKey) it takes once, and an answer that was lost is
// asked for again. Without one, after a [*zael.UnavailableError] more may have been taken, and stays
// so. Errors are those of [Client.Allow], zael.ErrLeaseClosed and zael.ErrLeaseExpired.
func (l *Lease) Consume(ctx context.Context, amounts zael.Amounts, idempotencyKey string) error {
	if l.none() {
		return errNoLease
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.Lock()
	text, closed := l.text, l.closed
	l.mu.Unlock()
	if closed {
		return zael.ErrLeaseClosed
	}
	var out struct {
		Lease string `json:"lease"`
	}
	if err := l.call(ctx, "consume", endBody{Lease: text, Amounts: amounts}, idempotencyKey, &out); err != nil {
		return err
	}
	if out.Lease == "" {
		return &Error{Status: http.StatusOK, Detail: "the answer of " + l.client.base + " has no lease"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = out.Lease
	return nil
}

type renewedBody struct {
	Held     bool      `json:"held"`
	Deadline time.Time `json:"deadline"`
	Again    seconds   `json:"renew_in_seconds"`
}

// Renew keeps the slots of the lease for another hold. If they are lost, Held is false. Errors are
// those of [Lease.End], and zael.ErrLeaseClosed if the lease has ended.
func (l *Lease) Renew(ctx context.Context) (zael.Renewal, error) {
	r, err := l.renew(ctx)
	return zael.Renewal{Held: r.Held, Deadline: r.Deadline}, err
}

func (l *Lease) renew(ctx context.Context) (out renewedBody, err error) {
	if l.none() {
		return out, errNoLease
	}
	l.mu.Lock()
	text, closed := l.text, l.closed
	l.mu.Unlock()
	if closed {
		return out, zael.ErrLeaseClosed
	}
	err = l.call(ctx, "renew", endBody{Lease: text}, "", &out)
	return out, err
}

// hold returns the shortest hold of the slots that the acquire took, 0 if it took none, or if it is
// not known.
func (l *Lease) hold() time.Duration {
	var hold time.Duration
	for i := range l.admission.Limits {
		s := &l.admission.Limits[i]
		if s.Limit.Kind() != zael.KindSlots || s.Requested == 0 {
			continue
		}
		if d, err := s.Limit.Definition(); err == nil && (hold == 0 || d.Period < hold) {
			hold = d.Period
		}
	}
	return hold
}

// usualHold is the hold of slots whose limit does not say another.
const usualHold = time.Minute

// Keep renews the slots of the lease, each quarter of their hold, until ctx is done or the lease has
// ended, which is no error. It returns [ErrSlotsLost] if others may have them: the server says so, or
// has not answered for a hold. For a lease without slots it returns nil at once.
func (l *Lease) Keep(ctx context.Context) error {
	if l.none() {
		return errNoLease
	}
	wait, held := l.hold()/4, time.Now() // that it was, at least
	hold := cmp.Or(l.hold(), usualHold)  // of a lease of a text, until it is known
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		begun := time.Now()
		r, err := l.renew(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, zael.ErrLeaseClosed):
			return nil //nolint:nilerr // the end of the lease, or of the wait, is what Keep is for
		case err == nil && !r.Held:
			return ErrSlotsLost
		case err == nil && r.Again == 0:
			return nil
		case err == nil:
			held, hold = begun, 4*time.Duration(r.Again)
			wait = hold / 4
		case !errors.Is(err, zael.ErrUnavailable) && !errors.Is(err, zael.ErrContention) || time.Since(held) > hold:
			return fmt.Errorf("%w: %w", ErrSlotsLost, err)
		default:
			wait = hold / 16
		}
	}
}
