// Package offsets changes the committed offsets of consumer groups, safely:
// snapshot, apply, verify, put back.
//
// Invariants:
//
//   - A committed offset is the next offset to be read.
//   - Nothing is changed for a group with active members: the broker refuses
//     it, and so says the result.
//   - Results are per partition. One bad partition or group never hides the
//     others, and nothing is called done before it has been read back.
package offsets
