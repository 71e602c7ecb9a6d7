package activities

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// What each part of a restore is given is in the workflow's history as often as
// there are parts, so nothing in it may be as long as the request.
func TestAPlannedRestoreIsShort(t *testing.T) {
	r := RestoreRequest{BackupID: "b", Options: config.Restore{MaxConcurrentParts: 4, Partitions: map[string][]int32{}, ExcludePartitions: map[string][]int32{},
		TopicMapping: map[string]string{}, TopicConfig: map[string]map[string]*string{}, PartitionCount: map[string]int32{}}}
	for i := range 1000 {
		name := fmt.Sprint("topic-", i)
		o := &r.Options
		o.Topics.Include, o.Topics.Exclude = append(o.Topics.Include, name), append(o.Topics.Exclude, name)
		o.Partitions[name], o.ExcludePartitions[name], o.TopicMapping[name], o.TopicConfig[name], o.PartitionCount[name] = []int32{1}, []int32{2}, name, map[string]*string{}, 3
		o.ConsumerGroups, r.Approval.Approvers = append(o.ConsumerGroups, name), append(r.Approval.Approvers, name)
	}
	data, err := json.Marshal(r.Planned())
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Planned(); len(data) > 2000 || p.BackupID != "b" || p.Options.MaxConcurrentParts != 4 {
		t.Errorf("%d bytes: %.300s", len(data), data)
	}
	if len(r.Options.TopicMapping) != 1000 {
		t.Error("the request itself was changed")
	}
}
