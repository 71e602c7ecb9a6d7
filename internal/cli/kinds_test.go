package cli

import (
	"slices"
	"testing"

	"github.com/kafka-backup/kafka-backup/workflows"
)

// Every kind of operation is counted from zero.
func TestKindsAreCounted(t *testing.T) {
	for _, k := range kinds {
		if k.name != scheduledKind.name && !slices.Contains(workflows.Kinds, k.name) {
			t.Errorf("%s is not among workflows.Kinds", k.name)
		}
	}
}
