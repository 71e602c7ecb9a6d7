package repository

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// CheckSegments makes sure that segments are there and as long as they were when they were written. It
// lists the folders that they are in and reads nothing. The error is a *CorruptError that names the first
// one, and how many more there are.
func (r *Repository) CheckSegments(ctx context.Context, segments map[SegmentRef]bool) error {
	folders := map[string]map[string]int64{} // the sizes that there should be, by key
	for ref := range segments {
		folder := ref.Key[:strings.LastIndexByte(ref.Key, '/')+1]
		if folders[folder] == nil {
			folders[folder] = map[string]int64{}
		}
		folders[folder][ref.Key] = ref.Size
	}
	var first *CorruptError
	more := 0
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		want := folders[folder]
		found := make(map[string]int64, len(want))
		for list := r.bucket.List(&blob.ListOptions{Prefix: folder}); ; {
			o, err := list.Next(ctx)
			if err == io.EOF {
				break
			}
			if err != nil {
				return fmt.Errorf("look for segments: %w", storageerr.Wrap(err, "list", folder))
			}
			if _, is := want[o.Key]; is {
				found[o.Key] = o.Size
			}
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			size, there := found[key]
			switch {
			case there && size == want[key]:
			case first != nil:
				more++
			case !there:
				first = &CorruptError{Key: key, Detail: "it does not exist"}
			default:
				first = &CorruptError{Key: key, Detail: "size in bytes", Want: strconv.FormatInt(want[key], 10), Got: strconv.FormatInt(size, 10)}
			}
		}
	}
	if first == nil {
		return nil
	}
	if more > 0 {
		return fmt.Errorf("%d segments are damaged, the first: %w", more+1, first)
	}
	return first
}
