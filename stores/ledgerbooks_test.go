package stores_test

import "github.com/zeroae/zael"

// A chunk is what was taken of a limit at once.
type chunk struct {
	n      int64
	resets int  // of the limit before
	lapsed bool // of slots: not counted
}

// counted reports whether a chunk counts in its bucket.
func (m *ledgerModel) counted(k zael.Key, name string, c chunk) bool {
	return !c.lapsed && c.resets == m.resets[k][name]
}

// limits calls f for each limit of each bucket.
func (p *modelPart) limits(f func(zael.Key, zael.Limit)) {
	for _, l := range p.policy.own {
		f(p.key, l)
	}
	if p.parent == "" {
		return
	}
	for _, l := range p.policy.parent {
		f(zael.Key{Entity: p.parent, Resource: p.key.Resource}, l)
	}
}

// charges calls f for each charge of amounts, which says what is unsaid.
func (p *modelPart) charges(amount func(l zael.Limit) int64, f func(zael.Key, zael.Limit, int64)) {
	p.limits(func(k zael.Key, l zael.Limit) { f(k, l, amount(l)) })
}

// asked returns what a request takes that says amounts.
func asked(amounts zael.Amounts) func(zael.Limit) int64 {
	return func(l zael.Limit) int64 {
		if n, ok := amounts[l.Name]; ok || l.Kind() == zael.KindSlots {
			return n
		}
		return 1
	}
}

// fits reports whether charges fit.
func (m *ledgerModel) fits(p *modelPart, amount func(zael.Limit) int64) bool {
	fits := true
	p.charges(amount, func(k zael.Key, l zael.Limit, n int64) {
		none := n == 0 && l.Kind() == zael.KindSlots
		fits = fits && (m.bypassed[k] || none || m.used[k][l.Name]+n <= m.most(k, l))
	})
	return fits
}

// add adds what a part took to its buckets and its account.
func (m *ledgerModel) add(p *modelPart, amount func(zael.Limit) int64) {
	seen := map[string]bool{}
	p.charges(amount, func(k zael.Key, l zael.Limit, n int64) {
		if !m.bypassed[k] {
			m.charge(k, l.Name, n)
			if p.chunks[k] == nil {
				p.chunks[k] = map[string][]chunk{}
			}
			p.chunks[k][l.Name] = append(p.chunks[k][l.Name], chunk{n, m.resets[k][l.Name], false})
		}
		if !seen[l.Name] {
			seen[l.Name] = true
			p.taken[l.Name] += n
			p.used[l.Name] += n
		}
	})
}

// chargeAll adds amounts, times sign, to the buckets of a part.
func (m *ledgerModel) chargeAll(p *modelPart, amount func(zael.Limit) int64, sign int64) {
	p.charges(amount, func(k zael.Key, l zael.Limit, n int64) {
		if !m.bypassed[k] {
			m.charge(k, l.Name, sign*n)
		}
	})
}

// chargeParts adds what a request of parts takes, times sign, to their buckets.
func (m *ledgerModel) chargeParts(parts []*modelPart, sign int64) {
	for _, p := range parts {
		m.chargeAll(p, asked(p.used), sign)
	}
}

func (m *ledgerModel) charge(k zael.Key, name string, n int64) {
	if m.used[k] == nil {
		m.used[k] = zael.Amounts{}
	}
	m.used[k][name] += n
}

// settle brings the buckets of a part from what was taken to what was used. Nothing is
// given back to a limit that was filled since, and nothing added to such a quota.
func (m *ledgerModel) settle(p *modelPart, used func(l zael.Limit) int64) {
	p.charges(used, func(k zael.Key, l zael.Limit, n int64) {
		if p.bypassed[k] {
			return
		}
		more := n - p.taken[l.Name]
		chunks := p.chunks[k][l.Name]
		ended := false // the period of a quota in which it was taken
		for _, c := range chunks {
			if c.n > 0 && l.Kind() == zael.KindQuota {
				ended = c.resets != m.resets[k][l.Name]
			}
		}
		if more > 0 && !ended {
			m.charge(k, l.Name, more)
		}
		for i := len(chunks) - 1; i >= 0 && more < 0; i-- {
			c := &chunks[i]
			gives := min(-more, c.n)
			if c.n -= gives; m.counted(k, l.Name, *c) {
				m.charge(k, l.Name, -gives)
			}
			more += gives
		}
	})
}
