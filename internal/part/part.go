// Package part cuts the work of an operation into parts: what one activity
// does, on one worker, at a time.
//
// A part holds whole topic partitions, in the order given, so that the
// partitions of a topic stay together and the index shards that parts write
// stay in topic order. The cut depends on nothing but its arguments.
package part

// MaxParts is the most parts an operation is cut into, however large it is:
// each costs its workflow a few events of history.
const MaxParts = 200

// minBytes is the size below which more parts bring nothing: one part keeps a
// worker's cores and wires busy by itself, for about a second.
const minBytes = 256 << 20

// Limits say how large a part may be.
type Limits struct {
	// MaxBytes and MaxPartitions bound a part. They give way where MaxParts
	// would be exceeded.
	MaxBytes      int64
	MaxPartitions int
	// Concurrent is how many parts are worked on at once: there should be a
	// few times as many parts, so that no worker is idle at the end.
	Concurrent int
}

// Cut cuts len(sizes) partitions, given their sizes in bytes, into parts and
// returns the end (exclusive) of each part. Without partitions there are no
// parts.
func Cut(sizes []int64, l Limits) (ends []int) {
	var total int64
	for _, s := range sizes {
		total += s
	}
	maxBytes := max(l.MaxBytes, 1)
	if l.Concurrent > 0 {
		maxBytes = min(maxBytes, max(total/int64(4*l.Concurrent), minBytes))
	}
	maxBytes = max(maxBytes, 2*total/MaxParts)
	maxPartitions := max(l.MaxPartitions, 1, 2*len(sizes)/MaxParts)

	var bytes int64
	begin := 0
	for i, s := range sizes {
		if i > begin && (bytes+s > maxBytes || i-begin >= maxPartitions) {
			ends = append(ends, i)
			begin, bytes = i, 0
		}
		bytes += s
	}
	if len(sizes) > begin {
		ends = append(ends, len(sizes))
	}
	return ends
}
