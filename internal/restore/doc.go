// Package restore restores a backup into a cluster: plan, targets, parts,
// mapping.
//
// Invariants:
//
//   - What goes into a target partition, and in which order, is a pure
//     function of the plan ([StreamVersion] names the function). So the rank
//     of a record is the same in every attempt on every worker.
//   - A record's sequence number is its rank, and its producer the restore's
//     own: the broker takes each record once and in order, whatever attempts
//     do. See transfer.Produce.
//   - Topic ids, begin offsets and the producer id are recorded durably before
//     the first record is sent.
//   - How far a partition is, is read from its leader's log, never from memory
//     of an earlier attempt.
//   - Topic configurations that are changed for loading were recorded before
//     they were changed, and are put back.
package restore
