package streamworker

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A sight is a lease as this worker has seen it.
type sight struct {
	lease
	since   time.Time // of the beat
	changed bool      // since it was first seen: its owner lives
	listed  bool      // the stream has the shard
}

// free tells whether a lease may be taken: nobody has it, or who has it shows
// no sign of life.
func (s *sight) free(now time.Time, length time.Duration) bool {
	return s.owner == "" || now.Sub(s.since) >= length
}

// look notes what the leases are now.
func look(before map[string]sight, leases map[string]lease, listed map[string]bool, now time.Time) map[string]sight {
	after := make(map[string]sight, len(leases))
	for shard, l := range leases {
		old, known := before[shard]
		s := sight{lease: l, since: now, listed: listed[shard]}
		if known && old.owner == l.owner {
			s.changed = old.changed || old.beat != l.beat
			if old.beat == l.beat {
				s.since = old.since
			}
		}
		after[shard] = s
	}
	return after
}

// ready are the shards that can be read: not to their end yet, and their parents
// are.
func ready(sights map[string]sight) []string {
	var names []string
	for shard, s := range sights {
		parent, known := sights[s.parent]
		if s.listed && !s.done && (!known || parent.done || !parent.listed) {
			names = append(names, shard)
		}
	}
	slices.Sort(names)
	return names
}

// choose is which shards to take: of those that are free as many as are our part
// among all workers; if there are none, one of who has most, if that evens out.
func choose(sights map[string]sight, me string, now time.Time, length time.Duration) []string {
	names := ready(sights)
	var free []string
	owned := map[string][]string{me: nil}
	for _, shard := range names {
		s := sights[shard]
		switch {
		case s.owner == me:
			owned[me] = append(owned[me], shard)
		case s.free(now, length):
			free = append(free, shard)
		default:
			owned[s.owner] = append(owned[s.owner], shard)
		}
	}
	part := (len(names) + len(owned) - 1) / len(owned)
	need := part - len(owned[me])
	if len(free) > 0 || need <= 0 {
		return free[:max(0, min(need, len(free)))]
	}
	owners := slices.SortedFunc(maps.Keys(owned), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(owned[b]), len(owned[a])), cmp.Compare(a, b))
	})
	if most := owned[owners[0]]; len(most) >= len(owned[me])+2 {
		return most[:1]
	}
	return nil
}
