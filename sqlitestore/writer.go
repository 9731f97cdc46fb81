package sqlitestore

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// batchSize is how many ops a transaction has at most.
const batchSize = 512

// When several processes write, each gives way after a turn for long enough that
// one of the others finds the file unlocked; otherwise the one that just wrote
// would be the first to lock it again, for hundreds of milliseconds. Turns are
// longer than a transaction as each begins with nothing known of the file.
const (
	turn     = 2 * time.Millisecond
	giveWay  = 200 * time.Microsecond // or up to three times as long
	rivalAge = 20 * time.Millisecond  // since another writer was noticed
)

// A writer does the ops of a queue, several in one transaction. All of it
// belongs to the goroutine that runs it.
type writer struct {
	txn
	queue *queue
	batch []*op
	timer *time.Timer
	rival time.Time // when another writer was noticed
	turn  time.Time // when this one's turn began

	done     chan struct{} // closed at the end
	closeErr error
}

func newWriter(c *conn, q *queue, retention time.Duration, seen *latest) *writer {
	w := &writer{queue: q, timer: time.NewTimer(time.Hour), done: make(chan struct{})}
	w.txn.init(c, retention, seen)
	return w
}

// run does what comes until the queue is closed and empty.
func (w *writer) run() {
	for {
		// Let the callers that were just answered come back first, so that the
		// transactions are few and large.
		runtime.Gosched()
		if w.queue.wanted() {
			w.giveWay()
			w.transact()
			continue
		}
		if w.ended() {
			return
		}
		<-w.queue.wake
	}
}

// ended tells whether the queue is closed and nothing waits in it. It turns
// away those that wait if they are to be.
func (w *writer) ended() bool {
	w.queue.mu.Lock()
	closed, gone := w.queue.closed, w.queue.gone
	w.queue.mu.Unlock()
	if gone {
		w.batch = w.queue.take(w.batch[:0], int(^uint(0)>>1))
		w.answer(errClosed)
		return true
	}
	return closed && !w.queue.wanted()
}

// end lets go of the file.
func (w *writer) end() {
	w.closeErr = w.conn.close()
	close(w.done)
}

// transact does one transaction and answers its ops.
func (w *writer) transact() {
	if begun, err := w.begin(); !begun {
		if err != nil {
			w.batch = w.queue.take(w.batch[:0], batchSize)
			w.answer(err)
		}
		return
	}
	w.batch = w.queue.take(w.batch[:0], batchSize)
	err := w.perform()
	if err == nil {
		err = w.commit()
	}
	if err != nil {
		w.abort()
		err = engineError(err)
	}
	w.answer(err)
}

// begin locks the file for writing. It tries as long as anybody waits.
func (w *writer) begin() (begun bool, err error) {
	var wait backoff
	for {
		_, err := w.conn.exec(begin)
		if err == nil {
			return true, nil
		}
		if !locked(err) {
			w.abort() // should the engine take one for open
			return false, engineError(err)
		}
		w.sleep(wait.next())
		w.rival = time.Now()
		w.turn = w.rival
		if !w.queue.wanted() {
			return false, nil
		}
	}
}

// giveWay lets another process write if there is one and this one's turn is over.
func (w *writer) giveWay() {
	if now := time.Now(); now.Sub(w.rival) < rivalAge && now.Sub(w.turn) > turn {
		w.sleep(giveWay + rand.N(2*giveWay))
		w.turn = time.Now()
	}
}

func (w *writer) sleep(d time.Duration) {
	w.timer.Reset(d)
	<-w.timer.C
}

// perform does the ops of the batch between begin and commit. Its error is that
// none can be done.
func (w *writer) perform() error {
	foreign, err := w.look()
	if err != nil {
		return err
	}
	if foreign {
		w.rival = time.Now()
	}
	oldest, newest := bucket.MaxInstant, -bucket.MaxInstant
	calls := 0
	for _, o := range w.batch {
		var fatal error
		switch o.kind {
		case takes:
			o.err, fatal = w.take(o)
		case adjusts, undoes:
			o.err, fatal = w.adjust(o)
		case changes:
			if fatal = w.flush(); fatal == nil {
				o.err, fatal = w.changed(o)
			}
		}
		if fatal != nil {
			return fatal
		}
		if o.kind != changes {
			calls++
			oldest, newest = min(oldest, o.at), max(newest, o.at)
			w.seeBuckets(o)
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	if calls == 0 {
		return nil
	}
	w.seen.see(newest)
	if err := w.sweep(calls, oldest); err != nil {
		return err
	}
	return w.keepLatest(newest)
}

// changed does an op of kind changes.
func (w *writer) changed(o *op) (err, fatal error) {
	err = o.change(&w.txn)
	if err == nil || errors.Is(err, zael.ErrEntityExists) || errors.Is(err, zael.ErrEntityNotFound) {
		return err, nil
	}
	return nil, err // perhaps half done
}

// answer tells the batch how it went. err is nil if the transaction is on the
// disk; then each op has its own error.
func (w *writer) answer(err error) {
	for i, o := range w.batch {
		w.batch[i] = nil
		if err != nil {
			o.err = err
		}
		if o.kind == undoes {
			continue
		}
		if o.stage.CompareAndSwap(running, answered) {
			o.done <- struct{}{}
			continue
		}
		if o.kind == takes && o.err == nil {
			w.queue.mu.Lock()
			w.queue.push(o.undo())
			w.queue.mu.Unlock()
		}
	}
	w.batch = w.batch[:0]
}
