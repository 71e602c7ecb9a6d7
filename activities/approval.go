package activities

import (
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Requested is the part of every request that says who asked for the operation
// and whose approval its plan needs.
type Requested struct {
	// Requester is the person's name as they gave it; empty when not known.
	Requester string          `json:"requester,omitempty"`
	Approval  config.Approval `json:"approval,omitzero"`
	// Notifications say who is told how it ends, and that it waits for approval.
	Notifications config.Notifications `json:"notifications,omitzero"`
}

// Proposal is a plan as it is put to an approver: small, whatever the size of
// the plan. The whole of it is in the repository.
type Proposal struct {
	// Key is where the plan is in the repository; empty when it is nowhere.
	Key string `json:"key,omitempty"`
	// Digest, in hexadecimal, stands for what would be done: two plans have the
	// same one exactly when carrying them out does the same to the same target.
	// Times, keys and whatever else an approver does not decide on are not in
	// it; what the plan found in the target is.
	Digest string `json:"digest"`
	// Summary says in one line what would be changed.
	Summary  string   `json:"summary"`
	Facts    []Fact   `json:"facts,omitempty"`
	Tables   []Table  `json:"tables,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Fact is one thing to know about a plan: topics to be created, bytes ...
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Table is a part of a plan in rows: topics, offsets before and after ...
type Table struct {
	Name   string     `json:"name"`
	Header []string   `json:"header"`
	Rows   [][]string `json:"rows"`
	// More is how many rows were left out (see [MaxProposalRows]).
	More int `json:"more,omitempty"`
}

// MaxProposalRows is how many rows a table of a proposal has at most: it goes
// into the workflow's history.
const MaxProposalRows = 20

// Add adds a row, or counts it when there are enough.
func (t *Table) Add(cells ...string) {
	if len(t.Rows) == MaxProposalRows {
		t.More++
		return
	}
	t.Rows = append(t.Rows, cells)
}

// Outcome is how the question for approval ended.
type Outcome string

// The outcomes.
const (
	Approved  Outcome = "approved"
	Rejected  Outcome = "rejected"
	TimedOut  Outcome = "timed-out" // nobody answered in time, and that ended the operation
	Proceeded Outcome = "proceeded" // nobody answered in time, and it was carried out all the same
)

// Decision is the answer to the question for approval. It is in the workflow's
// history and in the operation's report.
type Decision struct {
	Outcome Outcome   `json:"outcome"`
	By      string    `json:"by,omitempty"` // as they named themselves; empty when time decided
	Reason  string    `json:"reason,omitempty"`
	Plan    string    `json:"plan"` // digest of the plan that was decided on
	Key     string    `json:"key,omitempty"`
	At      time.Time `json:"at"`
	// Via is how it was given: update, signal, or timeout.
	Via string `json:"via"`
}

// Types of the application errors of operations that were not approved.
const (
	NotApproved     = "Rejected"        // somebody rejected the plan
	ApprovalTimeout = "ApprovalTimeout" // nobody answered in time
)
