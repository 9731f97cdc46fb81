package stores_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/zeroae/zael"
)

// setLimits stores how many the limits of a bucket let in.
func (m *ledgerModel) setLimits(k zael.Key, quota, slots int64) error {
	m.note("limits of %v: quota %d, slots %d", k, quota, slots)
	m.stored[k] = zael.Amounts{"quota": quota, "slots": slots}
	for _, le := range m.open {
		le.older = le.older || slices.ContainsFunc(le.parts, func(p *modelPart) bool {
			return p.key == k || p.parent == k.Entity && p.key.Resource == k.Resource
		})
	}
	return m.ask(func(ctx context.Context) error {
		return m.limiter().SetLimits(ctx, zael.Scope(k), storedLimits(quota, slots))
	})
}

// create makes one of the people, and stores limits.
func (m *ledgerModel) create(who int) error {
	e := zael.Entity{ID: m.name(people[who])}
	if who == 0 {
		e.ParentID = m.name("team")
	}
	failed := m.broken
	err := m.ask(func(ctx context.Context) error {
		_, err := m.limiter().CreateEntity(ctx, e)
		return err
	})
	if err != nil && (!failed || !errors.Is(err, zael.ErrEntityExists)) {
		return err
	}
	return m.setLimits(zael.Key{Entity: e.ID, Resource: "files"}, 20, 5)
}

// deleteEntity deletes one of the people, with buckets, limits and switches, and makes it again.
func (m *ledgerModel) deleteEntity(who int) error {
	id := m.name(people[who])
	if m.inTime { // a lease would take its slots again
		if err := m.endHolders(id); err != nil {
			return err
		}
	}
	m.note("delete %v", id)
	failed := m.broken
	err := m.ask(func(ctx context.Context) error { return m.limiter().DeleteEntity(ctx, id) })
	if err != nil && (!failed || !errors.Is(err, zael.ErrEntityNotFound)) {
		return err
	}
	for _, p := range modelPolicies {
		k := zael.Key{Entity: id, Resource: p.resource}
		m.fill(k, p.own)
		delete(m.bypassed, k)
		for _, le := range m.open {
			le.lost = le.lost || slices.ContainsFunc(le.parts, func(p *modelPart) bool { return p.key == k })
		}
	}
	return m.create(who)
}

// fill has limits of a bucket full, as if they were new.
func (m *ledgerModel) fill(k zael.Key, limits []zael.Limit) {
	if m.resets[k] == nil {
		m.resets[k] = map[string]int{}
	}
	for _, l := range limits {
		m.resets[k][l.Name]++
		m.charge(k, l.Name, -m.used[k][l.Name])
	}
}

// reset fills some limits of a bucket.
func (m *ledgerModel) reset() error {
	k, limits := m.bucket()
	var names []string
	for _, l := range limits {
		if l.Kind() != zael.KindSlots && m.rng.IntN(2) == 0 {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	m.note("reset %v of %v", names, k)
	err := m.ask(func(ctx context.Context) error {
		_, err := m.limiter().Reset(ctx, k.Entity, k.Resource, names, zael.AdminOptions{})
		return err
	})
	if errors.Is(err, zael.ErrNoLimits) && slices.ContainsFunc(names, func(name string) bool { return m.used[k][name] == 0 }) {
		return nil // that has not been used
	}
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	m.fill(k, slices.DeleteFunc(slices.Clone(limits), func(l zael.Limit) bool { return !slices.Contains(names, l.Name) }))
	return nil
}

// bypass turns the limits of a bucket off, or on again.
func (m *ledgerModel) bypass() error {
	k, _ := m.bucket()
	to := zael.Bypass
	if m.bypassed[k] {
		to = zael.Enabled
	}
	m.note("%v of %v", to, k)
	m.bypassed[k] = to == zael.Bypass
	return m.ask(func(ctx context.Context) error {
		return m.limiter().SetSwitch(ctx, zael.Scope(k), to, zael.AdminOptions{})
	})
}

// bucket returns a random bucket and its limits.
func (m *ledgerModel) bucket() (zael.Key, []zael.Limit) {
	policy := modelPolicies[m.rng.IntN(len(modelPolicies))]
	who := people[m.rng.IntN(3)]
	if who == "team" {
		return zael.Key{Entity: m.name(who), Resource: policy.resource}, policy.parent
	}
	return zael.Key{Entity: m.name(who), Resource: policy.resource}, policy.own
}
