package config

// Backup says how a backup is made.
type Backup struct {
	Compression      string   `json:"compression,omitempty" default:"zstd" oneof:"zstd|none" doc:"Compression of blocks whose record batches are not compressed. Batches that are compressed already are stored as they are."`
	CompressionLevel int      `json:"compression_level,omitempty" default:"1" min:"1" max:"22" doc:"Level on zstd's scale. 1 is the fastest; above 3 costs much time for little space."`
	SegmentMaxBytes  Bytes    `json:"segment_max_bytes,omitempty" default:"128MiB" min:"1MiB" max:"4GiB" doc:"Size at which a segment is closed."`
	SegmentMaxAge    Duration `json:"segment_max_age,omitempty" default:"5m" min:"1s" max:"24h" doc:"Age at which a segment is closed although it is not full. What a segment holds is safe once it is closed."`
	BlockMaxBytes    Bytes    `json:"block_max_bytes,omitempty" default:"1MiB" min:"16KiB" max:"64MiB" doc:"Size, before compression, at which a block is closed. A block is the smallest thing that a restore reads."`
	// Incremental off reads everything again.
	Incremental bool `json:"incremental" default:"true" doc:"Read only what is new since the last backup of the same topics in the repository and refer to its segments for the rest. Either way each backup restores alone."`

	// Continuous: see workflows.Continuous.
	Continuous bool `json:"continuous,omitempty" doc:"Follow the topics, new ones included, until the operation is cancelled, and make a backup every checkpoint_interval."`
	// CheckpointInterval is the time between two backups of a continuous backup, and so its recovery point.
	CheckpointInterval Duration `json:"checkpoint_interval,omitempty" default:"5m" min:"1s" max:"24h" doc:"continuous: time between two backups. What is newer than the last one is lost with the cluster."`
	// MergeSegments bounds the number of small segments.
	MergeSegments Bytes `json:"merge_segments,omitempty" default:"16MiB" min:"0" max:"1GiB" doc:"A backup writes segments of earlier backups that are smaller than this anew, joined into one, when there are several. 0: never."`

	IncludeInternalTopics bool        `json:"include_internal_topics,omitempty" doc:"Take Kafka's internal topics too, where source.topics selects them. One that source.topics.include names without a wildcard is always taken."`
	IncludeConsumerGroups bool        `json:"include_consumer_groups" default:"true" doc:"Capture the committed offsets of consumer groups."`
	ConsumerGroups        GroupFilter `json:"consumer_groups,omitzero" doc:"Which consumer groups are captured."`

	PartMaxBytes       Bytes    `json:"part_max_bytes,omitempty" default:"4GiB" min:"1MiB" max:"1TiB" doc:"The work is cut into parts of about this size; a part is what one worker does at a time."`
	PartMaxPartitions  int      `json:"part_max_partitions,omitempty" default:"500" min:"1" max:"10000" doc:"Most topic partitions in one part."`
	MaxConcurrentParts int      `json:"max_concurrent_parts,omitempty" default:"4" min:"1" max:"1000" doc:"Parts in work at the same time, over all workers."`
	FetchMaxBytes      Bytes    `json:"fetch_max_bytes,omitempty" default:"4MiB" min:"64KiB" max:"512MiB" doc:"Most bytes in one answer of a broker. A part in work holds about six such answers in memory; larger ones are hardly faster."`
	FetchPartitionMax  Bytes    `json:"fetch_max_partition_bytes,omitempty" default:"1MiB" min:"16KiB" max:"256MiB" doc:"Most bytes of one partition in one answer, unless so few partitions share the answer that it would not be full. A single larger batch still comes whole."`
	FetchMaxWait       Duration `json:"fetch_max_wait,omitempty" default:"500ms" min:"0s" max:"30s" doc:"Longest time a broker waits for data before it answers."`

	RateLimitBytesPerSec Bytes `json:"rate_limit_bytes_per_sec,omitempty" min:"0" doc:"Most bytes a second read from the cluster, over all parts. 0: no limit."`
}

// Restore says how a restore is made.
type Restore struct {
	DryRun bool        `json:"dry_run,omitempty" doc:"Check everything and print the plan; change nothing."`
	Topics TopicFilter `json:"topics,omitzero" doc:"Which topics of the backup are restored, by their names in the backup."`
	// Partitions by source topic name; a topic not named is restored whole.
	Partitions        map[string][]int32 `json:"partitions,omitempty" doc:"Partitions to restore, by topic name in the backup. A topic that is not named is restored whole."`
	ExcludePartitions map[string][]int32 `json:"exclude_partitions,omitempty" doc:"Partitions to leave out, by topic name in the backup."`
	// TopicMapping is source name to target name.
	TopicMapping map[string]string `json:"topic_mapping,omitempty" doc:"Target topic by topic name in the backup. A topic that is not named keeps its name."`

	TimeWindowStart *Timestamp `json:"time_window_start,omitempty" doc:"Restore records with this timestamp or a later one."`
	TimeWindowEnd   *Timestamp `json:"time_window_end,omitempty" doc:"Restore records with this timestamp or an earlier one."`

	CreateTopics bool `json:"create_topics" default:"true" doc:"Create target topics that are missing, with the captured configuration and partition count."`
	// ReplicationFactor 0 takes the captured one, -1 the target cluster's default.
	ReplicationFactor int `json:"replication_factor,omitempty" min:"-1" max:"32767" doc:"Replication factor of created topics. 0: as captured. -1: the cluster's default."`
	// TopicConfig: see [Restore.TopicConfigFor].
	TopicConfig map[string]map[string]*string `json:"topic_config,omitempty" doc:"Configuration of created topics that differs from what was captured, by target topic name or pattern, then by configuration name. A null value leaves the entry to the cluster's default."`
	// PartitionCount: see [Restore.PartitionCountFor].
	PartitionCount map[string]int32 `json:"partition_count,omitempty" min:"1" max:"100000" doc:"Partition count of target topics that differs from what was captured, by target topic name or pattern. Records are then placed by their keys, as Kafka's default partitioner does; the order of records with the same key is kept."`
	ExistingTopics string           `json:"existing_topics,omitempty" default:"fail" oneof:"fail|append" doc:"What to do with a target topic that exists and holds records which this restore did not write."`
	// AllowForeignWrites records pieces in the mapping where others wrote in between.
	AllowForeignWrites bool `json:"allow_foreign_writes,omitempty" doc:"Go on when somebody else writes to a target partition during the restore. Otherwise the restore stops with an error."`
	// DeleteCreatedTopics applies to topics that this restore created, and to no others.
	DeleteCreatedTopics bool `json:"delete_created_topics_on_failure,omitempty" doc:"Delete the topics that this restore created when it fails or is cancelled; not those that somebody else has written to."`

	ConsumerGroupStrategy       string   `json:"consumer_group_strategy,omitempty" default:"skip" oneof:"skip|header-based" doc:"skip: leave consumer groups alone. header-based: translate their offsets; needed by reset_consumer_offsets, which sets them. The offset mapping by which offset-reset translates them later is kept in any case."`
	IncludeOriginalOffsetHeader bool     `json:"include_original_offset_header,omitempty" doc:"Add the headers x-kafka-backup-offset, x-kafka-backup-timestamp and x-kafka-backup-partition to every restored record. Records are then re-encoded, which is slower."`
	ResetConsumerOffsets        bool     `json:"reset_consumer_offsets,omitempty" doc:"Set the groups' committed offsets on the target as the last phase. Needs consumer_group_strategy: header-based."`
	ConsumerGroups              []string `json:"consumer_groups,omitempty" doc:"Groups whose offsets are set. Left out: all captured groups."`

	PartMaxBytes           Bytes `json:"part_max_bytes,omitempty" default:"4GiB" min:"1MiB" max:"1TiB" doc:"The work is cut into parts of about this size; a part is what one worker does at a time."`
	PartMaxPartitions      int   `json:"part_max_partitions,omitempty" default:"500" min:"1" max:"10000" doc:"Most topic partitions in one part."`
	MaxConcurrentParts     int   `json:"max_concurrent_parts,omitempty" default:"4" min:"1" max:"1000" doc:"Parts in work at the same time, over all workers."`
	ProduceMaxBytes        Bytes `json:"produce_max_bytes,omitempty" default:"4MiB" min:"64KiB" max:"100MiB" doc:"Most bytes in one produce request. A part in work holds about six such requests in memory; larger ones are hardly faster. Keep it under the brokers' socket.request.max.bytes."`
	ProduceBatchMaxBytes   Bytes `json:"produce_batch_max_bytes,omitempty" default:"1MiB" min:"1KiB" max:"64MiB" doc:"Size up to which small batches are joined before they are sent. A topic's max.message.bytes is kept to in any case."`
	RateLimitBytesPerSec   Bytes `json:"rate_limit_bytes_per_sec,omitempty" min:"0" doc:"Most bytes a second written to the cluster, over all parts. 0: no limit."`
	RateLimitRecordsPerSec int64 `json:"rate_limit_records_per_sec,omitempty" min:"0" doc:"Most records a second written to the cluster, over all parts. 0: no limit."`
}

// Approval says who must agree to the plan of an operation before it changes
// anything.
type Approval struct {
	Required bool `json:"required,omitempty" doc:"Wait, once the plan is made, until somebody approves it."`
	// Approvers are names as given by approve --by; empty is anybody.
	Approvers []string `json:"approvers,omitempty" split:"," doc:"Who may approve or reject. Left out: anybody who can reach the Temporal service."`
	// FourEyes refuses the requester's own approval.
	FourEyes bool `json:"four_eyes,omitempty" doc:"Who asked for the operation may not approve it."`
	// Timeout counts from the question; a question asked again starts anew.
	Timeout   Duration `json:"timeout,omitempty" default:"24h" min:"1s" max:"8760h" doc:"How long an answer is waited for."`
	OnTimeout string   `json:"on_timeout,omitempty" default:"fail" oneof:"fail|proceed|remind" doc:"What happens when nobody answered in time. fail: the operation ends and has changed nothing. proceed: it is carried out. remind: it is said again, in the course of time ever more rarely, and waited for again."`
}

// GroupFilter selects consumer groups by name, with the wildcards * and ?.
type GroupFilter struct {
	// Include: empty means every group.
	Include []string `json:"include,omitempty" doc:"Names, or patterns with * and ?. Left out: all groups that have offsets on the topics of the backup."`
	// Exclude wins over Include.
	Exclude []string `json:"exclude,omitempty" doc:"Names or patterns that are left out although included."`
}
