package bucket

// Extend moves the deadline of the record's Own holder, which has the slots that charges
// name under their Receipts, to an instant and the longest hold of its slots. Unlike
// [Record.Renew] it takes nothing: if the holder has been removed, held is false and nothing
// has changed.
func (r *Record) Extend(charges []Charge, at Instant) (deadline Instant, held bool) {
	own := r.own()
	if own == nil || len(charges) == 0 || own.Generation != charges[0].Receipt.Generation {
		return 0, false
	}
	r.touch(at)
	r.countSlots()
	r.Latest = Latest(r.Latest, at)
	return r.own().Deadline, true
}
