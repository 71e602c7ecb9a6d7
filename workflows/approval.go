package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

// Names of the answers to the question for approval. Each is both an update,
// which tells at once whether the answer counts, and a signal, which can be
// sent from the Web UI or by `temporal workflow signal` and whose refusal is
// seen in the operation's details only. Payload: an [Answer].
const (
	Approve = "approve"
	Reject  = "reject"
)

// Answer is the payload of approve and reject.
type Answer struct {
	// By is who answers. The name is taken as it is given: who may reach the
	// Temporal service at all is the service's business.
	By string `json:"by"`
	// Plan is the digest of the plan that was looked at, or at least its first
	// 8 characters. A reject may leave it out.
	Plan   string `json:"plan"`
	Reason string `json:"reason,omitempty"`
}

// Types of the application errors with which an answer is refused.
const (
	NotWaiting  = "NotWaiting"  // nothing waits for an answer
	Answered    = "Answered"    // somebody answered already, or time did
	NotApprover = "NotApprover" // not among the approvers
	FourEyes    = "FourEyes"    // the requester may not approve
	OtherPlan   = "OtherPlan"   // the answer is about another plan, or about none
)

// Question is a plan that was put to the approvers, and what became of it.
type Question struct {
	Plan    activities.Proposal `json:"plan"`
	AskedAt time.Time           `json:"asked_at"`
	Until   time.Time           `json:"until"`      // when time decides
	Timeout string              `json:"on_timeout"` // what it decides then
	// Round is 1 for the first plan, and grows each time that the target
	// changed and a new plan had to be put.
	Round     int                  `json:"round"`
	Reminders int                  `json:"reminders,omitempty"`
	Requester string               `json:"requester,omitempty"`
	Approvers []string             `json:"approvers,omitempty"` // empty: anybody
	FourEyes  bool                 `json:"four_eyes,omitempty"`
	Decision  *activities.Decision `json:"decision,omitempty"` // nil while it is open
	// Refused are answers by signal that did not count, with the reason; the
	// last few.
	Refused []string `json:"refused,omitempty"`
}

// waiting tells whether an answer would count.
func (q *Question) waiting() bool { return q != nil && q.Decision == nil }

// approved makes the plan of an operation and, where the request asks for it,
// waits until somebody has approved it. It is the gate that every operation
// passes between its plan and its first change:
//
//	decision, err := o.approved(ctx, req.Requested, func(ctx workflow.Context, round int) (activities.Proposal, error) {
//		err := o.step(ctx, "plan the reset", &plan, a.PlanReset, req, round)
//		return plan.Proposal, err
//	})
//	if err != nil {
//		return report, err
//	}
//	report.Approval = decision
//
// plan is called once where no approval is required. Otherwise it is called
// again after the approval, with the next round, looks at the target anew, and
// the operation goes on only when the digest is the same; when it is not, the
// new plan is put to the approvers. So after approved the plan that was made
// last is the one to carry out. A plan that is written somewhere must get a
// name of its own in each round (round counts from 0).
//
// The decision is nil where no approval is required. The error is the plan's,
// a cancellation, or an application error of type activities.NotApproved or
// activities.ApprovalTimeout; nothing has been changed then.
func (o *operation) approved(ctx workflow.Context, req activities.Requested, plan func(ctx workflow.Context, round int) (activities.Proposal, error)) (*activities.Decision, error) {
	proposal, err := plan(ctx, 0)
	if err != nil || !req.Approval.Required {
		return nil, err
	}
	for round := 1; ; round++ {
		decision, err := o.ask(ctx, req, proposal, round)
		if err != nil {
			return decision, err
		}
		if err := o.gate(ctx); err != nil {
			return decision, err
		}
		again, err := plan(ctx, round)
		if err != nil {
			return decision, err
		}
		if again.Digest == proposal.Digest {
			return decision, nil
		}
		o.note("what the plan found has changed since it was approved by %s; the new plan %s needs approval", orNobody(decision.By), short(again.Digest))
		proposal = again
	}
}

// ask puts a plan to the approvers and waits for the answer.
func (o *operation) ask(ctx workflow.Context, req activities.Requested, proposal activities.Proposal, round int) (*activities.Decision, error) {
	rules := req.Approval
	if why := nobody(req); why != "" {
		return nil, temporal.NewNonRetryableApplicationError("nobody could approve: four eyes are required, and "+why, activities.Configuration, nil)
	}
	wait := time.Duration(rules.Timeout)
	if wait <= 0 {
		wait = 24 * time.Hour // the configuration's default
	}
	q := &Question{
		Plan: proposal, Round: round, AskedAt: workflow.Now(ctx), Until: workflow.Now(ctx).Add(wait), Timeout: rules.OnTimeout,
		Requester: req.Requester, Approvers: rules.Approvers, FourEyes: rules.FourEyes,
	}
	o.Approval = q
	o.index(ctx, temporalservice.Attributes{Approval: "waiting", Plan: short(proposal.Digest)})
	o.settle(ctx)
	o.tellWaiting(ctx, q)
	defer o.tellAnswered(ctx)
	for q.waiting() {
		_, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
			Timeout:      q.Until.Sub(workflow.Now(ctx)),
			TimerOptions: workflow.TimerOptions{Summary: "approval of plan " + short(proposal.Digest) + ", then " + rules.OnTimeout},
		}, func() bool { return !q.waiting() })
		if err != nil {
			return nil, err
		}
		o.takeSignals(ctx) // an answer that came before the time was over counts
		switch {
		case !q.waiting():
		case ctx.Err() != nil:
			return nil, ctx.Err()
		default:
			o.overdue(ctx, q, wait)
		}
	}
	d := q.Decision
	switch d.Outcome {
	case activities.Rejected, activities.TimedOut:
		return d, notApproved(d)
	}
	return d, nil
}

// decide ends the wait. Whatever becomes of the operation, from now on it is
// not among those that wait.
func (o *operation) decide(ctx workflow.Context, d activities.Decision) {
	q := o.Approval
	d.Plan, d.Key, d.At = q.Plan.Digest, q.Plan.Key, workflow.Now(ctx)
	q.Decision = &d
	o.index(ctx, decided(q.Decision))
	o.settle(ctx)
}

// decided is a decision as search attributes.
func decided(d *activities.Decision) temporalservice.Attributes {
	return temporalservice.Attributes{Approval: string(d.Outcome), Approver: d.By, Plan: short(d.Plan), Reason: d.Reason, DecidedAt: d.At}
}

// overdue does what is to be done when nobody answered in time.
func (o *operation) overdue(ctx workflow.Context, q *Question, wait time.Duration) {
	late := activities.Decision{Outcome: activities.TimedOut, Via: "timeout", Reason: fmt.Sprintf("nobody answered within %v", wait)}
	switch q.Timeout {
	case "remind":
		now := workflow.Now(ctx)
		q.Reminders++
		q.Until = now.Add(max(wait, min(now.Sub(q.AskedAt)/8, maxReminder)))
		o.note("still waiting for approval (reminder %d)", q.Reminders)
		o.tellWaiting(ctx, q)
		o.show(ctx)
	case "proceed":
		late.Outcome = activities.Proceeded
		o.decide(ctx, late)
	default:
		o.decide(ctx, late)
	}
}

// maxReminder is up to how long the time between reminders grows, with the time
// that was waited already, where the timeout is shorter: history and audience
// have some hundred of them in a year, however short it is.
const maxReminder = 24 * time.Hour

func notApproved(d *activities.Decision) error {
	if d.Outcome == activities.TimedOut {
		return temporal.NewNonRetryableApplicationError(d.Reason+", so it was given up; nothing was changed", activities.ApprovalTimeout, nil)
	}
	text := "rejected by " + d.By
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return temporal.NewNonRetryableApplicationError(text+"; nothing was changed", activities.NotApproved, nil)
}

// check tells why an answer does not count, as an application error of one of
// the types above; nil when it counts.
func (o *operation) check(ctx workflow.Context, outcome activities.Outcome, a Answer) error {
	refuse := func(kind, format string, args ...any) error {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), kind, nil)
	}
	q := o.Approval
	switch {
	case q == nil:
		return refuse(NotWaiting, "the operation does not wait for approval")
	case q.Decision != nil && q.Decision.Via == "timeout":
		return refuse(Answered, "the time for an answer ended at %s", q.Decision.At.UTC().Format(time.RFC3339))
	case q.Decision != nil:
		return refuse(Answered, "%s has %s it already", q.Decision.By, q.Decision.Outcome)
	case ctx.Err() != nil || o.cancelled:
		return refuse(NotWaiting, "the operation is being cancelled")
	case strings.TrimSpace(a.By) == "":
		return refuse(NotApprover, "say who you are (by)")
	case len(q.Approvers) > 0 && !contains(q.Approvers, a.By):
		return refuse(NotApprover, "%s is not among the approvers (%s)", a.By, strings.Join(q.Approvers, ", "))
	case outcome == activities.Approved && q.FourEyes && samePerson(q.Requester, a.By):
		return refuse(FourEyes, "%s asked for the operation, so somebody else must approve it", a.By)
	case a.Plan == "" && outcome == activities.Rejected:
		return nil
	case len(a.Plan) < 8 || !strings.HasPrefix(q.Plan.Digest, strings.ToLower(a.Plan)):
		return refuse(OtherPlan, "the answer is about plan %q; the plan that waits for approval is %s", a.Plan, short(q.Plan.Digest))
	}
	return nil
}

// answer takes an answer that came as an update or a signal.
func (o *operation) answer(ctx workflow.Context, outcome activities.Outcome, a Answer, via string) (activities.Decision, error) {
	if err := o.check(ctx, outcome, a); err != nil {
		return activities.Decision{}, err
	}
	o.decide(ctx, activities.Decision{Outcome: outcome, By: strings.TrimSpace(a.By), Reason: a.Reason, Via: via})
	return *o.Approval.Decision, nil
}

// maxRefused is how many refused answers are remembered.
const maxRefused = 5

// refused remembers an answer by signal that did not count.
func (o *operation) refused(ctx workflow.Context, name string, a Answer, why error) {
	text := name
	if a.By != "" {
		text += " by " + a.By
	}
	text += " does not count: " + message(why)
	if q := o.Approval; q != nil {
		q.Refused = append(q.Refused, text)
		q.Refused = q.Refused[max(0, len(q.Refused)-maxRefused):]
	} else {
		o.note("%s", text)
	}
	o.show(ctx)
}

// answers are the two kinds of answer. Of several signals that arrive together a
// reject is taken in before an approve.
var answers = []struct {
	name    string
	outcome activities.Outcome
	text    string
}{
	{Reject, activities.Rejected, `End the operation; it has changed nothing. Payload: {"by": "who", "plan": "digest", "reason": "why"}.`},
	{Approve, activities.Approved, `Let the plan be carried out. Payload: {"by": "who", "plan": "digest", "reason": "why"}.`},
}

// handleAnswers makes the operation understand approve and reject as updates.
func (o *operation) handleAnswers(ctx workflow.Context) error {
	for _, k := range answers {
		err := workflow.SetUpdateHandlerWithOptions(ctx, k.name, func(ctx workflow.Context, a Answer) (activities.Decision, error) {
			return o.answer(ctx, k.outcome, a, "update")
		}, workflow.UpdateHandlerOptions{
			Validator:   func(ctx workflow.Context, a Answer) error { return o.check(ctx, k.outcome, a) },
			Description: k.text,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// nobody tells why no answer could ever count as an approval; empty: one could.
func nobody(req activities.Requested) string {
	switch others := func(a string) bool { return !samePerson(a, req.Requester) }; {
	case !req.Approval.FourEyes:
		return ""
	case strings.TrimSpace(req.Requester) == "":
		return "it is not known who asked for the operation; start it again with --requester"
	case len(req.Approval.Approvers) > 0 && !slices.ContainsFunc(req.Approval.Approvers, others):
		return "of approvers there is only the requester, " + req.Requester
	}
	return ""
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if samePerson(n, name) {
			return true
		}
	}
	return false
}

// samePerson compares names; case and surrounding space do not tell people
// apart.
func samePerson(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

// short is the beginning of a digest, enough to name it by.
func short(digest string) string { return digest[:min(len(digest), 12)] }

// write writes the question as Markdown: what it is about, how to answer it or
// what the answer was, and then the plan.
func (q *Question) write(b *strings.Builder) {
	p := &q.Plan
	fmt.Fprintf(b, "**Plan %s**: %s\n\n", short(p.Digest), cell(p.Summary))
	if d := q.Decision; d != nil {
		fmt.Fprintf(b, "**%s** %s at %s. %s\n\n", d.Outcome, by(d.By), d.At.UTC().Format(time.RFC3339), cell(d.Reason))
	} else {
		who := "Anybody"
		if len(q.Approvers) > 0 {
			who = strings.Join(q.Approvers, ", ")
		}
		if q.FourEyes {
			who += ", but not " + orSomebody(q.Requester) + ", who asked for it,"
		}
		fmt.Fprintf(b, "**Waiting for approval** until %s, then: %s. %s may send the signal `approve` or `reject` with\n\n"+
			"    {\"by\": \"your name\", \"plan\": \"%s\", \"reason\": \"why\"}\n\n", q.Until.UTC().Format(time.RFC3339), q.Timeout, cell(who), short(p.Digest))
	}
	for _, r := range q.Refused {
		fmt.Fprintf(b, "- %s\n", cell(r))
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(b, "- Warning: %s\n", cell(w))
	}
	for _, f := range p.Facts {
		fmt.Fprintf(b, "- %s: %s\n", cell(f.Name), cell(f.Value))
	}
	for _, t := range p.Tables {
		fmt.Fprintf(b, "\n**%s**\n\n| %s |\n|%s\n", cell(t.Name), strings.Join(cells(t.Header), " | "), strings.Repeat("---|", len(t.Header)))
		for _, row := range t.Rows {
			fmt.Fprintf(b, "| %s |\n", strings.Join(cells(row), " | "))
		}
		if t.More > 0 {
			fmt.Fprintf(b, "\nand %d more; all are in `%s`\n", t.More, p.Key)
		}
	}
	b.WriteString("\n")
}

func by(name string) string {
	if name == "" {
		return ""
	}
	return "by " + cell(name)
}

// cell makes a text fit for a place in a line of Markdown.
func cell(s string) string {
	return strings.NewReplacer("\n", " ", "|", "\\|", "<", "&lt;").Replace(s)
}

func cells(row []string) []string {
	out := make([]string, len(row))
	for i := range row {
		out[i] = cell(row[i])
	}
	return out
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}
