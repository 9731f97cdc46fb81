package bucket

// Pass writes the limits as they are into charges that are only counted: State under the
// definition of the charge, and the receipt of a charge of nothing. It changes neither
// the record nor what binds others.
func (r *Record) Pass(charges []Charge, at Instant) {
	for i := range charges {
		c := &charges[i]
		switch l := r.find(c.Name, c.Definition.Kind == Slots, i); {
		case c.Definition.Kind == Slots:
			c.State = r.slots(l, c, at)
		case l != nil:
			c.State = r.redefine(&l.State, &c.Definition, at)
		default:
			c.State = r.begin(&c.Definition, at, 0)
		}
		c.Receipt = c.State.Receipt()
	}
}
