package restore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// retentionWarnings says which topics' retention, now that it holds again,
// deletes records that were just restored.
func retentionWarnings(ctx context.Context, cluster *kafka.Cluster, plan *Plan) ([]string, error) {
	names := plan.targets()
	configs, err := cluster.TopicConfigs(ctx, names)
	if err != nil {
		return nil, err
	}
	var warnings []string
	for i := range plan.Topics {
		t := &plan.Topics[i]
		c := configs[t.Target]
		ms, err := strconv.ParseInt(c["retention.ms"].Value, 10, 64)
		if err != nil || ms < 0 || t.Records == 0 || !strings.Contains(c["cleanup.policy"].Value, "delete") {
			continue
		}
		if limit := time.Now().UnixMilli() - ms; t.Oldest < limit {
			warnings = append(warnings, fmt.Sprintf("topic %s: its retention.ms of %s holds again, and deletes records older than %s; the oldest restored are of %s (override retention.ms in restore.topic_config to keep them)",
				t.Target, time.Duration(ms)*time.Millisecond, day(limit), day(t.Oldest)))
		}
	}
	return warnings, nil
}

func day(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
