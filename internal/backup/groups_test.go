package backup

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// A plan holds the committed offsets on the topics that are backed up, and no
// others: each backup keeps its plan, however many groups the cluster has.
func TestAPlanHoldsTheOffsetsOfItsTopics(t *testing.T) {
	s := newSource(t, kfake.SeedTopics(1, "other"))
	s.produce(1)
	adm := kadm.NewClient(s.client)
	for _, group := range []string{"both", "elsewhere"} {
		var offsets kadm.Offsets
		offsets.AddOffset("other", 0, 0, -1)
		if group == "both" {
			offsets.AddOffset(topic, 1, 1, -1)
		}
		s.check(adm.CommitAllOffsets(s.ctx, group, offsets))
	}
	plan := s.plan("b", "")
	var kept repository.GroupsCapture
	s.check(s.repo.GetDocument(s.ctx, *plan.Groups, &kept))
	if len(kept.Groups) != 1 || kept.Groups[0].Group != "both" || len(kept.Groups[0].Offsets) != 1 || kept.Groups[0].Offsets[0].Topic != topic {
		t.Errorf("%+v", kept.Groups)
	}
}
