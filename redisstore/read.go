package redisstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/recent"
)

// A found is a bucket that was read.
type found struct {
	key    zael.Key
	record *record
}

// bucket returns it as zael has it. All slots count, also those of holders that may have
// died.
func (f found) bucket() zael.Bucket { return zael.Bucket{Key: f.key, Limits: f.record.shown(0)} }

// records reads the buckets that are there.
func (s *Store) records(ctx context.Context, what string, keys []zael.Key) (all []found, err error) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = s.keys.bucket(k)
	}
	hashes, err := s.readHashes(ctx, what, names)
	if err != nil {
		return nil, err
	}
	for i, hash := range hashes {
		r, err := readRecord(hash)
		if err != nil {
			return nil, err
		}
		if r != nil && len(r.Limits) > 0 {
			all = append(all, found{keys[i], r})
		}
	}
	return all, nil
}

// entityKeys returns the buckets of an entity that may be there, by resource.
func (s *Store) entityKeys(ctx context.Context, what, entity string) ([]zael.Key, error) {
	members, err := s.ranged(ctx, what, s.keys.index(entity), "-", "+", -1)
	if err != nil {
		return nil, err
	}
	keys := make([]zael.Key, len(members))
	for i, m := range members {
		keys[i] = zael.Key{Entity: entity, Resource: unescape(m)}
	}
	slices.SortFunc(keys, func(a, b zael.Key) int { return strings.Compare(a.Resource, b.Resource) })
	return keys, nil
}

// entityRecords reads the buckets of an entity.
func (s *Store) entityRecords(ctx context.Context, what, entity string) (all []found, err error) {
	keys, err := s.entityKeys(ctx, what, entity)
	if err != nil {
		return nil, err
	}
	for page := range slices.Chunk(keys, pageSize) {
		some, err := s.records(ctx, what, page)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// EntityBuckets implements zael.LimitStore.
func (s *Store) EntityBuckets(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
	const what = "reading an entity's buckets"
	return func(yield func(zael.Bucket, error) bool) {
		if err := storable.Text("entity", entity); err != nil {
			yield(zael.Bucket{}, err)
			return
		}
		keys, err := s.entityKeys(ctx, what, entity)
		if err != nil {
			yield(zael.Bucket{}, err)
			return
		}
		for page := range slices.Chunk(keys, pageSize) {
			if !s.yieldBuckets(ctx, what, page, yield) {
				return
			}
		}
	}
}

// yieldBuckets reads buckets and yields those that are there. It reports whether to go on.
func (s *Store) yieldBuckets(ctx context.Context, what string, keys []zael.Key, yield func(zael.Bucket, error) bool) bool {
	if ctx.Err() != nil {
		yield(zael.Bucket{}, s.translate(ctx, what, ctx.Err()))
		return false
	}
	all, err := s.records(ctx, what, keys)
	if err != nil {
		yield(zael.Bucket{}, err)
		return false
	}
	for _, f := range all {
		if !yield(f.bucket(), nil) {
			return false
		}
	}
	return true
}

// ResourceBuckets implements zael.CapacityReader. It looks at the names of all keys of the
// server's database.
func (s *Store) ResourceBuckets(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
	const what = "reading a resource's buckets"
	return func(yield func(zael.Bucket, error) bool) {
		if err := storable.Text("resource", resource); err != nil {
			yield(zael.Bucket{}, err)
			return
		}
		seen := map[zael.Key]bool{} // a scan may have a key twice
		for names, err := range s.scan(ctx, what, glob(s.keys.prefix)+"b:{*}:"+glob(escape(resource))) {
			if err != nil {
				yield(zael.Bucket{}, err)
				return
			}
			var keys []zael.Key
			for _, name := range names {
				if key, ok := s.keys.keyOf(name); ok && key.Resource == resource && !seen[key] {
					seen[key] = true
					keys = append(keys, key)
				}
			}
			if len(keys) > 0 && !s.yieldBuckets(ctx, what, keys, yield) {
				return
			}
		}
	}
}

// scan iterates pages of the names of keys that match a pattern. A name may come more than
// once.
func (s *Store) scan(ctx context.Context, what, pattern string) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		if s.closed.Load() {
			yield(nil, errClosed)
			return
		}
		c, err := s.connect(ctx)
		if err != nil {
			yield(nil, s.translate(ctx, what, err))
			return
		}
		nodes := map[string]rueidis.Client{"": c}
		if s.cluster {
			if nodes, err = primaries(s, ctx, what, c); err != nil {
				yield(nil, err)
				return
			}
		}
		for _, node := range nodes {
			if !s.scanNode(ctx, what, node, pattern, yield) {
				return
			}
		}
	}
}

// primaries returns the servers of a cluster that have slots, by address.
func primaries(s *Store, ctx context.Context, what string, c rueidis.Client) (map[string]rueidis.Client, error) { //nolint:revive // as ask
	entries, err := ask(s, ctx, what, func(ctx context.Context, c rueidis.Client) ([]rueidis.RedisMessage, error) {
		return c.Do(ctx, c.B().ClusterSlots().Build()).ToArray()
	})
	if err != nil {
		return nil, err
	}
	all, nodes := c.Nodes(), map[string]rueidis.Client{}
	for i := range entries { // first and last slot, primary, replicas
		entry, err := entries[i].ToArray()
		if err != nil || len(entry) < 3 {
			return nil, fmt.Errorf("redisstore: %s: what CLUSTER SLOTS says cannot be read: %w", what, err)
		}
		address, err := addressIn(&entry[2])
		if err != nil {
			return nil, fmt.Errorf("redisstore: %s: what CLUSTER SLOTS says cannot be read: %w", what, err)
		}
		node, ok := all[address]
		if !ok { // the client calls it otherwise: then the replicas too, which have what others have
			return all, nil
		}
		nodes[address] = node
	}
	return nodes, nil
}

// addressIn returns host and port of a server in what CLUSTER SLOTS says.
func addressIn(m *rueidis.RedisMessage) (string, error) {
	place, err := m.ToArray()
	if err != nil || len(place) < 2 {
		return "", errors.Join(errDamaged, err)
	}
	host, err := place[0].ToString()
	if err != nil {
		return "", err
	}
	port, err := place[1].AsInt64()
	return net.JoinHostPort(host, strconv.FormatInt(port, 10)), err
}

// scanNode is scan of one server. It reports whether to go on.
func (s *Store) scanNode(ctx context.Context, what string, c rueidis.Client, pattern string, yield func([]string, error) bool) bool {
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		if ctx.Err() != nil {
			yield(nil, s.translate(ctx, what, ctx.Err()))
			return false
		}
		entry, err := ask(s, ctx, what, func(ctx context.Context, _ rueidis.Client) (rueidis.ScanEntry, error) {
			return c.Do(ctx, c.B().Scan().Cursor(cursor).Match(pattern).Count(2*pageSize).Build()).AsScanEntry()
		})
		if err != nil {
			yield(nil, err)
			return false
		}
		if cursor = entry.Cursor; len(entry.Elements) > 0 && !yield(entry.Elements, nil) {
			return false
		}
	}
	return true
}

// glob quotes what has a meaning in patterns.
func glob(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "^", `\^`).Replace(s)
}

// resources has the resources whose first bucket this process has told of, lately.
type resources struct {
	mu    sync.Mutex
	known *recent.Map[string, struct{}]
}

// manyResources is of how many resources it is known that they are listed.
const manyResources = 1000

// listResource adds a resource to those that are listed, in the background, if this process has
// not done so.
func (s *Store) listResource(ctx context.Context, resource string) {
	s.resources.mu.Lock()
	if s.resources.known == nil {
		s.resources.known = recent.New[string, struct{}](manyResources)
	}
	_, known := s.resources.known.Get(resource)
	s.resources.known.Put(resource, struct{}{})
	s.resources.mu.Unlock()
	if known {
		return
	}
	s.inflight.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
		defer cancel()
		_, err := ask(s, ctx, "listing a resource", func(ctx context.Context, c rueidis.Client) (int64, error) {
			return c.Do(ctx, c.B().Zadd().Key(s.keys.resources()).ScoreMember().ScoreMember(0, resource).Build()).AsInt64()
		})
		if err != nil { // the next bucket of it tells
			s.resources.mu.Lock()
			s.resources.known.Delete(resource)
			s.resources.mu.Unlock()
		}
	})
}
