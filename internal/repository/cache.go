package repository

import (
	"container/list"
	"context"
	"sync"
)

// cachedBlocks bounds the block entries of the indexes that are kept, about 150 bytes each.
const cachedBlocks = 50_000

// segmentCache keeps the indexes of the segments that were opened last: the partitions of a part
// share its segments. Who asks for a segment that is being opened waits for it.
type segmentCache struct {
	mu      sync.Mutex
	entries map[SegmentRef]*list.Element // of *cached
	order   list.List                    // the most recently used first
	blocks  int
}

type cached struct {
	ref     SegmentRef
	ready   chan struct{} // closed when segment and err are set
	segment *Segment
	err     error
	blocks  int // 0 until ready
}

func (c *segmentCache) get(ctx context.Context, ref SegmentRef, open func(context.Context) (*Segment, error)) (*Segment, error) {
	for {
		c.mu.Lock()
		if e, ok := c.entries[ref]; ok {
			c.order.MoveToFront(e)
			c.mu.Unlock()
			entry := e.Value.(*cached)
			select {
			case <-entry.ready:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			if entry.err != nil && ctx.Err() == nil {
				continue // it was not kept; its error may be another caller's, so try ourselves
			}
			return entry.segment, entry.err
		}
		if c.entries == nil {
			c.entries = make(map[SegmentRef]*list.Element)
		}
		entry := &cached{ref: ref, ready: make(chan struct{})}
		e := c.order.PushFront(entry)
		c.entries[ref] = e
		c.mu.Unlock()

		entry.segment, entry.err = open(ctx)
		c.mu.Lock()
		if entry.err != nil {
			c.remove(e)
		} else {
			for i := range entry.segment.Index.Partitions {
				entry.blocks += 1 + len(entry.segment.Index.Partitions[i].Blocks)
			}
			c.blocks += entry.blocks
			for last := c.order.Back(); c.blocks > cachedBlocks && last != nil; {
				before := last.Prev()
				if last != e && last.Value.(*cached).blocks > 0 {
					c.remove(last)
				}
				last = before
			}
		}
		c.mu.Unlock()
		close(entry.ready)
		return entry.segment, entry.err
	}
}

// remove drops an entry; mu is held.
func (c *segmentCache) remove(e *list.Element) {
	entry := c.order.Remove(e).(*cached)
	delete(c.entries, entry.ref)
	c.blocks -= entry.blocks
}
