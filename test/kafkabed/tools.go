package kafkabed

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tools maps the names of Kafka's own command-line tools, without "kafka-", to
// their classes.
var tools = map[string]string{
	"acls":               "org.apache.kafka.tools.AclCommand",
	"cluster":            "org.apache.kafka.tools.ClusterTool",
	"configs":            "kafka.admin.ConfigCommand",
	"console-consumer":   "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"console-producer":   "org.apache.kafka.tools.ConsoleProducer",
	"consumer-groups":    "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"delete-records":     "org.apache.kafka.tools.DeleteRecordsCommand",
	"dump-log":           "org.apache.kafka.tools.DumpLogSegments",
	"get-offsets":        "org.apache.kafka.tools.GetOffsetShell",
	"groups":             "org.apache.kafka.tools.GroupsCommand",
	"leader-election":    "org.apache.kafka.tools.LeaderElectionCommand",
	"log-dirs":           "org.apache.kafka.tools.LogDirsCommand",
	"producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
	"share-groups":       "org.apache.kafka.tools.consumer.group.ShareGroupCommand",
	"storage":            "kafka.tools.StorageTool",
	"streams-groups":     "org.apache.kafka.tools.streams.StreamsGroupCommand",
	"topics":             "org.apache.kafka.tools.TopicCommand",
	"transactions":       "org.apache.kafka.tools.TransactionsCommand",
}

// Tool runs one of Kafka's own tools, "consumer-groups" for what a distribution
// ships as bin/kafka-consumer-groups.sh, and gives its standard output. Where
// the tool fails, the error quotes its standard error. Several of the tools
// report failures on their output and exit with 0: read what they print.
// The tool is killed when ctx ends.
func (b *Bed) Tool(ctx context.Context, name string, args ...string) (string, error) {
	class, ok := tools[strings.TrimPrefix(name, "kafka-")]
	if !ok {
		return "", fmt.Errorf("kafkabed: no tool named %q", name)
	}
	cmd := exec.CommandContext(ctx, b.java,
		append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
			"-Dlog4j2.configurationFile=" + filepath.Join(b.home, "log4j2-tools.xml"),
			"-cp", filepath.Join(b.home, "lib", "*"), class}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	dieWithParent(cmd)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kafkabed: kafka-%s: %w\n%s", strings.TrimPrefix(name, "kafka-"), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
