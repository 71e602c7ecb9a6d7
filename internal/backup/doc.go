// Package backup makes a backup: plan, copy parts, complete.
//
// Invariants:
//
//   - The plan is made once. It is written part by part and then as a whole,
//     each by create-if-absent; who finds it there follows it. So every
//     attempt, on every worker, copies the same offsets.
//   - The segments of a part form a chain: segment n+1 begins, partition by
//     partition, where segment n ended. A segment is created only if absent.
//     Of two attempts that race, the loser of a segment throws its own away,
//     reads the winner's index and goes on from there. So a part has no gap,
//     no overlap, and no object that does not belong to it.
//   - What is done is read from the repository, never from memory of an
//     earlier attempt.
//   - The backup exists when its manifest does, which is written last.
package backup
