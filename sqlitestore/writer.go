package sqlitestore

import (
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/zeroae/zael/bucket"
)

// batchSize is the largest number of ops in a transaction.
const batchSize = 512

// When several processes write, each yields after a turn, for long enough that another
// one finds the file unlocked. Otherwise the process that just wrote would lock it
// again first, for hundreds of milliseconds. A turn is longer than a transaction
// because it begins with an empty cache.
const (
	turn     = 2 * time.Millisecond
	yieldFor = 200 * time.Microsecond // up to three times as long
	rivalAge = 20 * time.Millisecond  // how long another writer is remembered
)

// A writer performs the ops of a queue, several in one transaction. All its fields
// belong to the goroutine that runs it.
type writer struct {
	txn
	queue *queue
	batch []*op
	timer *time.Timer
	rival time.Time // when another writer was last noticed
	turn  time.Time // when the present turn began

	done     chan struct{} // closed at the end
	closeErr error
}

func newWriter(c *conn, q *queue, retention time.Duration, latest *latestInstant) *writer {
	w := &writer{queue: q, timer: time.NewTimer(time.Hour), done: make(chan struct{})}
	w.txn.init(c, retention, latest)
	return w
}

// run performs ops until the queue is closed and empty.
func (w *writer) run() {
	for {
		// Let callers that were just answered queue their next ops first, for few and
		// large transactions.
		runtime.Gosched()
		if w.queue.hasWaiting() {
			w.yield()
			w.transact()
			continue
		}
		if w.ended() {
			return
		}
		<-w.queue.wake
	}
}

// ended reports whether the queue is closed and empty. It answers the waiting ops with
// errClosed if the queue is rejecting.
func (w *writer) ended() bool {
	w.queue.mu.Lock()
	closed, rejecting := w.queue.closed, w.queue.rejecting
	w.queue.mu.Unlock()
	if rejecting {
		w.batch = w.queue.next(w.batch[:0], int(^uint(0)>>1))
		w.answer(errClosed)
		return true
	}
	return closed && !w.queue.hasWaiting()
}

// end closes the file.
func (w *writer) end() {
	w.closeErr = w.conn.close()
	close(w.done)
}

// transact performs one transaction and answers its ops.
func (w *writer) transact() {
	if begun, err := w.begin(); !begun {
		if err != nil {
			w.batch = w.queue.next(w.batch[:0], batchSize)
			w.answer(err)
		}
		return
	}
	w.batch = w.queue.next(w.batch[:0], batchSize)
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

// begin locks the file for writing. It tries as long as an op is waiting.
func (w *writer) begin() (begun bool, err error) {
	var wait backoff
	for {
		_, err := w.conn.exec(begin)
		if err == nil {
			return true, nil
		}
		if !isLocked(err) {
			w.abort() // in case the engine considers a transaction open
			return false, engineError(err)
		}
		w.sleep(wait.next())
		w.rival = time.Now()
		w.turn = w.rival
		if !w.queue.hasWaiting() {
			return false, nil
		}
	}
}

// yield lets another process write, if there is one and this turn is over.
func (w *writer) yield() {
	if now := time.Now(); now.Sub(w.rival) < rivalAge && now.Sub(w.turn) > turn {
		w.sleep(yieldFor + rand.N(2*yieldFor))
		w.turn = time.Now()
	}
}

func (w *writer) sleep(d time.Duration) {
	w.timer.Reset(d)
	<-w.timer.C
}

// perform performs the ops of the batch between begin and commit. An error means that
// none of them can be committed.
func (w *writer) perform() error {
	foreign, err := w.refresh()
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
		case takeOp:
			o.err, fatal = w.once(o, w.take)
		case adjustOp, undoOp:
			o.err, fatal = w.once(o, w.adjust)
		case changeOp:
			if fatal = w.flush(); fatal == nil {
				o.err, fatal = w.changed(o)
			}
		}
		if fatal != nil {
			return fatal
		}
		if o.kind != changeOp {
			calls++
			oldest, newest = min(oldest, o.at), max(newest, o.at)
			w.noteBuckets(o)
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	if calls == 0 {
		return nil
	}
	w.latest.note(newest)
	if err := w.sweep(calls, oldest); err != nil {
		return err
	}
	return w.keepLatest(newest)
}

// changed performs an op of kind changeOp.
func (w *writer) changed(o *op) (err, fatal error) {
	err = o.change(&w.txn)
	if err == nil || isAnswer(err) {
		return err, nil
	}
	return nil, err // perhaps half performed
}

// answer answers the ops of the batch. If err is nil, the transaction is committed and
// each op has its own error.
func (w *writer) answer(err error) {
	for i, o := range w.batch {
		w.batch[i] = nil
		if err != nil {
			o.err = err
		}
		if o.kind == undoOp {
			continue
		}
		if o.stage.CompareAndSwap(running, answered) {
			o.done <- struct{}{}
			continue
		}
		if o.kind == takeOp && o.err == nil && o.once.GivenBack() {
			w.queue.mu.Lock()
			w.queue.push(o.undo())
			w.queue.mu.Unlock()
		}
	}
	w.batch = w.batch[:0]
}
