// Package postgresstore keeps zael's buckets in a PostgreSQL database, for any number of
// processes, with no server of their own. It needs PostgreSQL 13 or later.
//
// # One acquire
//
// A bucket is one row. What a take or an adjust makes of it is computed in this process, by
// package bucket, as in every store. So all kinds of limits cost the same, and the database does
// no arithmetic: it compares and writes.
//
//   - A caller queues its operation (op.go, queue.go). A few goroutines, the lanes, take all that
//     is queued and whose buckets are not in flight from this process as one batch; so callers are
//     joined, those of one bucket and those of many. (lane.go)
//   - The lane performs the operations in order on the rows as this process has seen them last,
//     or as those of new buckets (step.go). Then it calls the function zael.write once, which
//     writes each row if its last write is still the one that was seen, and answers the others
//     as they are (write.go, schema.go). One statement, which is one transaction.
//   - Operations on rows that another process has changed are performed again, on what was
//     answered. From then on takes of plain rates from such a row are sent as numbers, too, of which
//     zael.write makes them on the row as it is (offer.go). If others are faster twice, or an
//     operation has a once-key, the batch locks its rows in the order of their keys, reads, computes
//     and writes, in one transaction of two calls (lock.go). So no two processes wait for each other,
//     and each operation comes to an end.
//   - Operations on several buckets (a cascade) are written in one statement as well, all rows or
//     none; if one of them has changed, the batch locks them.
//   - A caller whose context ends returns at once. If its take is made all the same, it is given
//     back.
//
// A refusal by a row that has just been read is remembered for a second, for a tenth of one if the
// bucket has slots, and answered without a call (LocalStore).
//
// # Lost answers
//
// Each row has the random ids of its last four writes. A call whose answer is lost is repeated
// with the same id and the same values, for as long as callers wait and then for half a minute: it
// is made once. Only if four other writes came between can a charge count twice; what gives
// back is not repeated then.
//
// # Time
//
// Instants are the server's: each answer has its clock, and callers' instants are corrected by
// it. The server is told no instant of this machine that it has not corrected.
//
// # Sessions
//
// Nothing stays in a session: there are no prepared statements, and settings hold for a
// transaction. So poolers may pass connections on after each transaction, as PgBouncer does.
//
// docs/postgres.md has the rest: setting up, rights, durability, sizes, what to watch.
package postgresstore
