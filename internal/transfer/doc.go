// Package transfer moves record batches between Kafka brokers and memory as
// fast as the wire allows: raw fetch and produce requests, many partitions a
// request, one lane a connection, and not a single record decoded.
//
// Invariants:
//
//   - The order of a partition's batches is the broker's order. A partition
//     belongs to one lane at a time.
//   - Fetching ends where the caller said it ends and nowhere else: neither an
//     empty, a short nor a throttled answer is taken for the end of a
//     partition, and nothing at or beyond the planned end is handed on.
//   - Only committed data is handed on (read_committed): batches of aborted
//     transactions and control batches are counted and left out.
//   - A producing lane never sends past a doubt. After any error it asks the
//     leader how far the partition is before it sends again.
//   - Memory is bounded by the options: by bytes in flight, not by partitions.
package transfer
