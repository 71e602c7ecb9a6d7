// Package recordbatch reads, checks, patches and writes Kafka record batches
// (message format v2, KIP-98; layout at
// https://kafka.apache.org/documentation/#recordbatch) without a client
// library, because a backup and a restore move whole batches and must not
// decode what they need not change.
//
// Invariants:
//
//   - A [Batch] is exactly one whole batch: [Next] cuts it out of a fetch
//     answer or a block and has checked its length and magic, nothing more.
//     [Batch.Verify] checks the rest.
//   - Nothing writes into a batch but [Batch.Stamp]. Whatever else changes a
//     batch writes a new one.
//   - Null and empty differ everywhere: a nil slice is Kafka's null, an empty
//     slice that is not nil is empty. Headers keep order and duplicates.
//   - Batches written here are dense (offset deltas 0..n-1, as a broker
//     demands of a produced batch), carry CreateTime timestamps and no
//     producer. Only [Upconverter], which keeps absolute offsets, may leave
//     offset gaps.
//   - Memory is bounded by the limits given to [Decoder] and [Encoder], and
//     neither allocates per record. Their results point into their input or
//     into their own buffers; each function says for how long.
//
// Types with state ([Decoder], [Encoder], [Rewriter], [Aborted],
// [Upconverter]) serve one goroutine each.
package recordbatch
