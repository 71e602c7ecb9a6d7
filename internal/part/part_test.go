package part

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestCutCoversEverythingInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Int64Range(0, 1<<40), 0, 3000).Draw(t, "sizes")
		l := Limits{
			MaxBytes:      rapid.Int64Range(1, 1<<42).Draw(t, "bytes"),
			MaxPartitions: rapid.IntRange(1, 1000).Draw(t, "partitions"),
			Concurrent:    rapid.IntRange(0, 50).Draw(t, "concurrent"),
		}
		ends := Cut(sizes, l)
		if !slices.IsSorted(ends) || len(slices.Compact(slices.Clone(ends))) != len(ends) {
			t.Fatalf("ends do not ascend: %v", ends)
		}
		if len(sizes) == 0 {
			if len(ends) != 0 {
				t.Fatalf("parts of nothing: %v", ends)
			}
			return
		}
		if ends[0] == 0 || ends[len(ends)-1] != len(sizes) {
			t.Fatalf("%d partitions, ends %v", len(sizes), ends)
		}
		if len(ends) > MaxParts+1 {
			t.Fatalf("%d parts", len(ends))
		}
	})
}

func TestCutKeepsLimits(t *testing.T) {
	const gib = 1 << 30
	sizes := make([]int64, 64)
	for i := range sizes {
		sizes[i] = gib
	}
	if got := Cut(sizes, Limits{MaxBytes: 8 * gib, MaxPartitions: 500, Concurrent: 2}); len(got) != 8 {
		t.Errorf("64 GiB in parts of 8 GiB: %d parts", len(got))
	}
	if got := Cut(sizes, Limits{MaxBytes: 8 * gib, MaxPartitions: 4, Concurrent: 2}); len(got) != 16 {
		t.Errorf("64 partitions in parts of 4: %d parts", len(got))
	}
	// A gigabyte is enough for two workers with two parts each.
	small := []int64{gib / 8, gib / 8, gib / 8, gib / 8, gib / 8, gib / 8, gib / 8, gib / 8}
	if got := Cut(small, Limits{MaxBytes: 4 * gib, MaxPartitions: 500, Concurrent: 4}); len(got) != 4 {
		t.Errorf("1 GiB in 8 partitions: %d parts", len(got))
	}
	if got := Cut(sizes[:1], Limits{MaxBytes: 1, MaxPartitions: 1, Concurrent: 4}); !slices.Equal(got, []int{1}) {
		t.Errorf("one partition: %v", got)
	}
}
