package bucket

// Pass writes the limits as they are into charges that are only counted: State under the
// definition of the charge, and the receipt of a charge of nothing. It changes neither
// the record nor what binds others.
func (r *Record) Pass(charges []Charge, at Instant) {
	for i := range charges {
		c := &charges[i]
		if l := r.find(c.Name, i); l != nil {
			c.State = r.redefine(&l.State, &c.Definition, at)
		} else {
			c.State = r.begin(&c.Definition, at, 0)
		}
		c.Receipt = c.State.Receipt()
	}
}
