// Package redisstore keeps zael's buckets in Redis 7 or Valkey, for any number of processes.
//
// # One acquire
//
// A bucket is a hash. An acquire is one EVALSHA of a script, take.lua, which has for each limit
// of the request a row: the definition that the caller knows, the place of the refill, the
// greatest mark from which the amount fits, and what to add. The script compares the rows
// with the hash, and writes all of them or nothing; it needs no clock and no arithmetic but
// comparisons and one addition, which are exact to int64. Instants are arguments: they are
// the server's, learned from TIME.
//
//	Store.Take ──► coalescer ──► Store.Write ──► EVALSHA take.lua
//	               few writes    a batch            │ applied, and nobody has written since: "1"
//	               of a bucket                      │ applied, and the hash as it was before
//	                                                ▼ not applied, and the hash as it is
//
// A process knows the hashes that it last saw, each by the id of its last write, which it
// sends along. If that still is the last, the answer is one number: what the write has made of
// the hash, package bucket says on this side. Otherwise the hash comes back.
//
// What the rows do not fit is decided here: the answer has the hash, package bucket says what
// becomes of it (bucket.Record), and another script, write.lua, writes that if the hash's last
// write still is the one that was seen. So is everything for which there are no rows: slots,
// soft limits, debt that is carried, definitions that change. Without rivals that is one
// call too, as a process that wrote last knows the hash.
//
// Child and parent are written by one call, if they are on one server. In a cluster they are
// taken apart, and given back if one refuses.
//
// # Writes
//
// Each write has an id, and a hash has the ids of its last four writes. A write whose answer
// was lost is sent again with its id, which tells whether the first copy was applied. A
// write that gives tokens back is only sent again while a write is there that was seen before
// it: otherwise more than four may have come between.
//
// # Keys
//
// docs/redis.md has the keys, what they hold, and what is lost when a server fails over.
package redisstore
