package redisstore

// What the tests look at of the inside.

// OwnNamespace returns the name of the store's namespace.
func (s *Store) OwnNamespace() string { return s.config.Namespace }

// Readable reads a hash and writes it again, and reports whether it could be read.
func Readable(fields []string) (again []string, ok bool) {
	r, err := readRecord(fields)
	if err != nil {
		return nil, false
	}
	kept := r.kept("holder", 0)
	for i := range kept.Limits {
		l := &kept.Limits[i]
		again = limitFields(again, l, nil)
		_ = l.State.Available(0)
		_ = l.State.WaitIdle(0)
	}
	for i := range kept.Holders {
		again = append(again, string(holderField)+kept.Holders[i].ID, holderText(&kept.Holders[i]))
	}
	return again, true
}
