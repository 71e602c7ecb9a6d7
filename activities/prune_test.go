package activities

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/mock"
	commonpb "go.temporal.io/api/common/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"

	"github.com/kafka-backup/kafka-backup/internal/prune"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// execution is a running workflow; an empty backup id is none.
func execution(id, typeName, backupID string) *workflowpb.WorkflowExecutionInfo {
	e := &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: id}, Type: &commonpb.WorkflowType{Name: typeName}}
	if backupID != "" {
		p, _ := converter.GetDefaultDataConverter().ToPayload(backupID)
		e.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{temporalservice.KeyBackupID.GetName(): p}}
	}
	return e
}

// in says in which repository an execution works.
func in(place string, e *workflowpb.WorkflowExecutionInfo) *workflowpb.WorkflowExecutionInfo {
	p, _ := converter.GetDefaultDataConverter().ToPayload(place)
	if e.SearchAttributes == nil {
		e.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{}}
	}
	e.SearchAttributes.IndexedFields[temporalservice.KeyRepository.GetName()] = p
	return e
}

func TestRunningOperations(t *testing.T) {
	c := mocks.NewClient(t)
	page := func(token string) any {
		return mock.MatchedBy(func(r *workflowservice.ListWorkflowExecutionsRequest) bool {
			return string(r.NextPageToken) == token && r.Namespace == "ns" && strings.HasPrefix(r.Query, `ExecutionStatus = "Running" AND WorkflowType IN ("Backup", `)
		})
	}
	c.On("ListWorkflow", mock.Anything, page("")).Return(&workflowservice.ListWorkflowExecutionsResponse{NextPageToken: []byte("more"), Executions: []*workflowpb.WorkflowExecutionInfo{
		execution("backup/a/x", "Backup", "a"), execution("restore/b/x", "Restore", ""),
	}}, nil)
	c.On("ListWorkflow", mock.Anything, page("more")).Return(&workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflowpb.WorkflowExecutionInfo{
		execution("mystery", "Backup", ""), in("/backups", execution("validate/here", "Validate", "")), in("/others", execution("validate/there", "Validate", "")),
		in("s3://the-same-in-other-words", execution("restore/d", "Restore", "d")), execution("reset/g", "OffsetReset", ""), execution("reset/h", "OffsetReset", "c"),
	}}, nil)
	got, err := RunningOperations(t.Context(), c, "ns", "/backups")
	if err != nil {
		t.Fatal(err)
	}
	// Of a backup that does not say its id prune must know; a reset of offsets need not use a backup.
	want := []prune.Operation{{WorkflowID: "backup/a/x", BackupID: "a"}, {WorkflowID: "restore/b/x", BackupID: "b"}, {WorkflowID: "mystery"}, {WorkflowID: "validate/here"},
		{WorkflowID: "restore/d", BackupID: "d"}, {WorkflowID: "reset/h", BackupID: "c"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}
