package temporalservice

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// The search attributes of an operation. A namespace on an SQL store has room
// for 10 attributes of type Keyword and 3 of each other type, whoever uses them
// (SQLite, MySQL and PostgreSQL alike): this set leaves one of each type free.
var (
	KeyKind       = temporal.NewSearchAttributeKeyKeyword("KafkaBackupKind")
	KeyBackupID   = temporal.NewSearchAttributeKeyKeyword("KafkaBackupID")
	KeyRepository = temporal.NewSearchAttributeKeyKeyword("KafkaBackupRepository")
	KeyCluster    = temporal.NewSearchAttributeKeyKeyword("KafkaBackupCluster")
	KeyPhase      = temporal.NewSearchAttributeKeyKeyword("KafkaBackupPhase")
	KeyState      = temporal.NewSearchAttributeKeyKeyword("KafkaBackupState")
	KeyRequester  = temporal.NewSearchAttributeKeyKeyword("KafkaBackupRequester")
	KeyApproval   = temporal.NewSearchAttributeKeyKeyword("KafkaBackupApproval")
	KeyApprover   = temporal.NewSearchAttributeKeyKeyword("KafkaBackupApprover")
	KeyPlan       = temporal.NewSearchAttributeKeyString("KafkaBackupPlan")
	KeyReason     = temporal.NewSearchAttributeKeyString("KafkaBackupReason")
	KeyDecidedAt  = temporal.NewSearchAttributeKeyTime("KafkaBackupDecidedAt")
	KeyTopics     = temporal.NewSearchAttributeKeyKeywordList("KafkaBackupTopics")
	KeyGroups     = temporal.NewSearchAttributeKeyKeywordList("KafkaBackupGroups")
)

// keys are all of them, in the order of the declaration.
var keys = []temporal.SearchAttributeKey{
	KeyKind, KeyBackupID, KeyRepository, KeyCluster, KeyPhase, KeyState, KeyRequester,
	KeyApproval, KeyApprover, KeyPlan, KeyReason, KeyDecidedAt, KeyTopics, KeyGroups,
}

// SearchAttributeTypes returns the name and type of each search attribute of
// the product, as a namespace must have them.
func SearchAttributeTypes() map[string]enums.IndexedValueType {
	types := make(map[string]enums.IndexedValueType, len(keys))
	for _, k := range keys {
		types[k.GetName()] = k.GetValueType()
	}
	return types
}

// Attributes are values for the search attributes of one operation. An empty
// field says nothing: a value that is already set stays.
type Attributes struct {
	Kind       string    // the operation: "backup", "restore", "offset-reset" ...
	BackupID   string    // id of the backup that is made or used
	Repository string    // where the repository is, without credentials
	Cluster    string    // Kafka's id of the cluster that is backed up or changed
	Phase      string    // the phase it is in
	State      string    // what it is doing: running, waiting, paused ...
	Requester  string    // who asked for the operation
	Approval   string    // state of the approval gate; "waiting" clears approver, reason and time of the decision before
	Approver   string    // who approved or rejected it
	Plan       string    // beginning of the digest of the plan that the approval is about
	Reason     string    // why it was approved or rejected
	DecidedAt  time.Time // when it was
	Topics     []string  // names; cut with a "+N more" at the end if they are too many to be indexed
	Groups     []string  // consumer groups, cut like Topics
}

// Limits of a value of a search attribute. Longer text is an error for some
// visibility stores (a VARCHAR(255) column) and for the frontend
// (frontend.searchAttributesSizeOfValueLimit), so it is cut.
const (
	maxKeywordRunes = 255
	maxListBytes    = 2048 // of the JSON text of the list
)

// Updates returns what a sets, cut to what a service can index.
func (a Attributes) Updates() []temporal.SearchAttributeUpdate {
	var u []temporal.SearchAttributeUpdate
	for _, v := range []struct {
		key   temporal.SearchAttributeKeyKeyword
		value string
	}{
		{KeyKind, a.Kind}, {KeyBackupID, a.BackupID}, {KeyRepository, a.Repository}, {KeyCluster, a.Cluster},
		{KeyPhase, a.Phase}, {KeyState, a.State}, {KeyRequester, a.Requester}, {KeyApproval, a.Approval}, {KeyApprover, a.Approver},
	} {
		if v.value != "" {
			u = append(u, v.key.ValueSet(cutKeyword(v.value)))
		}
	}
	if a.Approval == "waiting" {
		u = append(u, KeyApprover.ValueUnset(), KeyReason.ValueUnset(), KeyDecidedAt.ValueUnset())
	}
	if a.Plan != "" {
		u = append(u, KeyPlan.ValueSet(cutKeyword(a.Plan)))
	}
	if a.Reason != "" {
		u = append(u, KeyReason.ValueSet(cutKeyword(a.Reason)))
	}
	if !a.DecidedAt.IsZero() {
		u = append(u, KeyDecidedAt.ValueSet(a.DecidedAt))
	}
	if len(a.Topics) > 0 {
		u = append(u, KeyTopics.ValueSet(cutList(a.Topics)))
	}
	if len(a.Groups) > 0 {
		u = append(u, KeyGroups.ValueSet(cutList(a.Groups)))
	}
	return u
}

// Upsert sets search attributes of the running workflow. It does nothing in a
// workflow that was started without KeyKind, because then the namespace does
// not have the attributes and the workflow would be stuck (see Registration).
// Call it from workflow code; it is deterministic.
func Upsert(ctx workflow.Context, a Attributes) error {
	u := a.Updates()
	if len(u) == 0 || !workflow.GetTypedSearchAttributes(ctx).ContainsKey(KeyKind) {
		return nil
	}
	return workflow.UpsertTypedSearchAttributes(ctx, u...)
}

// cutKeyword returns the longest start of s that can be a keyword.
func cutKeyword(s string) string {
	if utf8.RuneCountInString(s) <= maxKeywordRunes {
		return s
	}
	return string([]rune(s)[:maxKeywordRunes])
}

// cutList returns the longest start of values that can be a keyword list, with
// "+N more" in place of the rest.
func cutList(values []string) []string {
	const roomForMore = len(`"+9223372036854775807 more"`)
	var list []string
	size := len("[]")
	for i, v := range values {
		v = cutKeyword(v)
		text, _ := json.Marshal(v) // a string always marshals
		size += len(text) + len(",")
		last := i == len(values)-1
		if size > maxListBytes || (!last && size > maxListBytes-roomForMore) {
			return append(list, fmt.Sprintf("+%d more", len(values)-i))
		}
		list = append(list, v)
	}
	return list
}
