package oracle

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Tools runs Kafka's own command-line tools; kafkabed.Bed is one.
type Tools interface {
	// Tool runs the tool bin/kafka-NAME.sh and gives its standard output.
	Tool(ctx context.Context, name string, args ...string) (string, error)
}

// Described is a line of kafka-consumer-groups --describe.
type Described struct {
	Group     string
	Topic     string
	Partition int32
	Current   int64 // committed offset; -1 where the tool prints "-"
	LogEnd    int64 // -1 where the tool prints "-"
	Lag       int64 // -1 where the tool prints "-"
}

// DescribeGroup has kafka-consumer-groups describe a group's offsets. The tool
// exits with 0 whatever happens, so an answer without a line for the group is an
// error that quotes it.
func DescribeGroup(ctx context.Context, tools Tools, bootstrap, group string) ([]Described, error) {
	out, err := tools.Tool(ctx, "consumer-groups", "--bootstrap-server", bootstrap, "--describe", "--offsets", "--group", group)
	if err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	return parseDescribed(out)
}

func parseDescribed(out string) ([]Described, error) {
	var column map[string]int
	var list []Described
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[0] == "GROUP" {
			column = map[string]int{}
			for i, name := range fields {
				column[name] = i
			}
			continue
		}
		if column == nil || len(fields) < len(column) {
			continue
		}
		d := Described{Group: fields[column["GROUP"]], Topic: fields[column["TOPIC"]]}
		partition, err := strconv.ParseInt(fields[column["PARTITION"]], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("oracle: kafka-consumer-groups printed %q: %w", line, err)
		}
		d.Partition = int32(partition)
		for name, into := range map[string]*int64{"CURRENT-OFFSET": &d.Current, "LOG-END-OFFSET": &d.LogEnd, "LAG": &d.Lag} {
			i, ok := column[name]
			if !ok {
				return nil, fmt.Errorf("oracle: kafka-consumer-groups printed no column %s:\n%s", name, out)
			}
			if *into = -1; fields[i] == "-" {
				continue
			}
			if *into, err = strconv.ParseInt(fields[i], 10, 64); err != nil {
				return nil, fmt.Errorf("oracle: kafka-consumer-groups printed %q: %w", line, err)
			}
		}
		list = append(list, d)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("oracle: kafka-consumer-groups described nothing:\n%s", out)
	}
	return list, nil
}

// Printed is a record as kafka-console-consumer prints it: bytes as they are,
// null as "null" and therefore not told apart from the text.
type Printed struct {
	Partition  int32
	Offset     int64
	Timestamp  int64  // milliseconds since 1970
	BrokerTime bool   // LogAppendTime
	Headers    string // name:value,name:value; NO_HEADERS for none
	Key, Value string
}

// Console says what kafka-console-consumer is to read.
type Console struct {
	Bootstrap string
	Topic     string
	// Group reads on from the group's committed offsets, and commits none. Empty
	// reads from the beginning.
	Group string
	// Max is how many records to read; reading also ends, without error, when
	// none came for 10 s.
	Max int
}

const (
	fieldMark  = "\x1f" // ASCII unit separator
	recordMark = "\x1e\n"
)

// ReadConsole has kafka-console-consumer read records in read_committed.
func ReadConsole(ctx context.Context, tools Tools, what Console) ([]Printed, error) {
	args := []string{
		"--bootstrap-server", what.Bootstrap, "--topic", what.Topic,
		"--max-messages", strconv.Itoa(what.Max), "--timeout-ms", "10000",
		"--isolation-level", "read_committed",
		"--command-property", "enable.auto.commit=false",
	}
	for _, property := range []string{
		"print.timestamp=true", "print.partition=true", "print.offset=true", "print.headers=true", "print.key=true",
		"key.separator=" + fieldMark, "line.separator=" + recordMark,
	} {
		args = append(args, "--formatter-property", property)
	}
	if what.Group != "" {
		args = append(args, "--group", what.Group)
	} else {
		args = append(args, "--from-beginning")
	}
	out, err := tools.Tool(ctx, "console-consumer", args...)
	if err != nil && !strings.Contains(err.Error(), "TimeoutException") {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	var list []Printed
	for text := range strings.SplitSeq(strings.TrimSuffix(out, recordMark), recordMark) {
		if text == "" {
			continue
		}
		r, err := parsePrinted(text)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

func parsePrinted(text string) (r Printed, err error) {
	fields := strings.SplitN(text, fieldMark, 6)
	if len(fields) != 6 {
		return r, fmt.Errorf("oracle: kafka-console-consumer printed %q", text)
	}
	kind, stamp, _ := strings.Cut(fields[0], ":")
	r.BrokerTime = kind == "LogAppendTime"
	if r.Timestamp, err = strconv.ParseInt(stamp, 10, 64); err != nil {
		return r, fmt.Errorf("oracle: kafka-console-consumer printed %q: %w", text, err)
	}
	partition, err := strconv.ParseInt(strings.TrimPrefix(fields[1], "Partition:"), 10, 32)
	if err != nil {
		return r, fmt.Errorf("oracle: kafka-console-consumer printed %q: %w", text, err)
	}
	r.Partition = int32(partition)
	if r.Offset, err = strconv.ParseInt(strings.TrimPrefix(fields[2], "Offset:"), 10, 64); err != nil {
		return r, fmt.Errorf("oracle: kafka-console-consumer printed %q: %w", text, err)
	}
	r.Headers, r.Key, r.Value = fields[3], fields[4], fields[5]
	return r, nil
}

// NextRead has kafka-console-consumer join a group and tells, for each partition
// of a topic with something left to read, the offset that the group reads first.
// left is how many records are left for it to read in all partitions.
func NextRead(ctx context.Context, tools Tools, bootstrap, group, topic string, left int) (map[int32]int64, error) {
	records, err := ReadConsole(ctx, tools, Console{Bootstrap: bootstrap, Topic: topic, Group: group, Max: left})
	if err != nil {
		return nil, err
	}
	if len(records) != left {
		return nil, fmt.Errorf("oracle: kafka-console-consumer read %d records of %s in group %s, %d were left", len(records), topic, group, left)
	}
	first := map[int32]int64{}
	for _, r := range records {
		if at, seen := first[r.Partition]; !seen || r.Offset < at {
			first[r.Partition] = r.Offset
		}
	}
	return first, nil
}
