// Package redisstore keeps zael's buckets in Redis 7 or Valkey, for any number of processes.
//
// # One acquire
//
// A bucket is a hash. An acquire is one EVALSHA of a script, take.lua. It has what package bucket
// makes of the hash as this process last saw it, and the id of the last write of then: if that
// still is the last, the script writes it. Otherwise it goes by rows, one for each limit of the
// request: the definition that the caller knows, the place of the refill, the greatest mark from
// which the amount fits, and what to add. The script compares the rows with the hash, and writes
// all of them or nothing; it needs no clock and no arithmetic but comparisons and one addition,
// which are exact to int64. Instants are arguments: they are the server's, learned from TIME.
//
//	Store.Take ──► coalescer ──► Store.Write ──► EVALSHA take.lua
//	               few writes    a batch            │ applied, and nobody has written since: "1"
//	               of a bucket                      │ applied, and the hash as it was before
//	                                                ▼ not applied, and the hash as it is
//
// If the hash was as it was last seen, the answer is one number. Otherwise the hash comes back, and
// package bucket says on this side what the rows have made of it.
//
// What the rows do not fit is decided here: the answer has the hash, package bucket says what
// becomes of it (bucket.Record), and another script, write.lua, writes that if the hash's last
// write still is the one that was seen. So is everything for which there are no rows: slots,
// soft limits, debt that is carried, definitions that change. Without rivals that is one
// call too, as a process that wrote last knows the hash.
//
// Child and parent are written by one call, if they are on one server. In a cluster they are
// taken apart, and given back if one refuses; there, what is done by a key claims that key first.
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
