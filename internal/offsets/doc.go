// Package offsets changes the committed offsets of consumer groups, safely:
// plan, snapshot, apply, verify, put back.
//
// Invariants:
//
//   - A committed offset is the next offset to be read.
//   - A plan ([Planner]) writes nothing. It says for each partition of each
//     group what is committed, what is to be, and what is done about it; what
//     cannot be done is in it too, with the reason, and never left out.
//   - Nothing is changed for a group with active members: the broker refuses
//     it, and so says the result.
//   - Results are per partition. One bad partition or group never hides the
//     others, and nothing is called done before it has been read back.
//   - What is changed can be put back: a plan holds what was committed before,
//     and a snapshot ([Snapshot]) keeps it for longer.
//   - Work is cut into shards, of whole groups, so that memory and payloads are
//     bounded however many groups there are.
package offsets
