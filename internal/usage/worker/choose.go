package worker

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// An observedLease is a lease as this worker has seen it.
type observedLease struct {
	lease
	since  time.Time // when its heartbeat was first seen, by our clock
	alive  bool      // the heartbeat has changed since: its owner lives
	listed bool      // the stream has the shard
}

// free reports whether the lease may be claimed: it has no owner, or the owner has not
// renewed it for its length.
func (o *observedLease) free(now time.Time, length time.Duration) bool {
	return o.owner == "" || now.Sub(o.since) >= length
}

// observe returns what is known of the leases after they were read.
func observe(before map[string]observedLease, leases map[string]lease, listed map[string]bool, now time.Time) map[string]observedLease {
	after := make(map[string]observedLease, len(leases))
	for shard, l := range leases {
		old, known := before[shard]
		o := observedLease{lease: l, since: now, listed: listed[shard]}
		if known && old.owner == l.owner {
			o.alive = old.alive || old.heartbeat != l.heartbeat
			if old.heartbeat == l.heartbeat {
				o.since = old.since
			}
		}
		after[shard] = o
	}
	return after
}

// readable returns the shards that are not read to their end and whose parents are.
func readable(observed map[string]observedLease) []string {
	var names []string
	for shard, o := range observed {
		parent, known := observed[o.parent]
		if o.listed && !o.done && (!known || parent.done || !parent.listed) {
			names = append(names, shard)
		}
	}
	slices.Sort(names)
	return names
}

// choose returns the shards to claim: free ones up to our fair share, or else one of the
// worker that has most, if that brings the numbers closer.
func choose(observed map[string]observedLease, me string, now time.Time, length time.Duration) []string {
	names := readable(observed)
	var free []string
	owned := map[string][]string{me: nil}
	for _, shard := range names {
		o := observed[shard]
		switch {
		case o.owner == me:
			owned[me] = append(owned[me], shard)
		case o.free(now, length):
			free = append(free, shard)
		default:
			owned[o.owner] = append(owned[o.owner], shard)
		}
	}
	share := (len(names) + len(owned) - 1) / len(owned)
	need := share - len(owned[me])
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
