package temporalservice

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"pgregory.net/rapid"
)

// An SQL visibility store has this many columns of a type for a namespace
// (schema/*/visibility in Temporal's sources).
func TestAttributesFitAnSQLStore(t *testing.T) {
	room := map[enums.IndexedValueType]int{
		enums.INDEXED_VALUE_TYPE_KEYWORD: 10, enums.INDEXED_VALUE_TYPE_KEYWORD_LIST: 3,
		enums.INDEXED_VALUE_TYPE_TEXT: 3, enums.INDEXED_VALUE_TYPE_DATETIME: 3,
	}
	for _, typ := range SearchAttributeTypes() {
		room[typ]--
	}
	for typ, left := range room {
		if left < 1 {
			t.Errorf("%v: %d columns are left, want one at least for others", typ, left)
		}
	}
}

// The embedded server makes namespaces with the product's attributes. It is in
// another module and cannot import them.
func TestEmbeddedServerHasTheSameAttributes(t *testing.T) {
	text, err := os.ReadFile("../../deploy/server/search-attributes.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for name, typ := range SearchAttributeTypes() {
		want = append(want, fmt.Sprintf("%s=%v", name, typ))
	}
	slices.Sort(want)
	if got := strings.Fields(string(text)); !slices.Equal(got, want) {
		t.Errorf("search-attributes.txt has\n%v\nwant\n%v", got, want)
	}
}

func TestUpdatesSetWhatIsSaid(t *testing.T) {
	if u := (Attributes{}).Updates(); len(u) != 0 {
		t.Errorf("nothing said, %d attributes set", len(u))
	}
	at := time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC)
	all := Attributes{"k", "b", "r", "c", "p", "s", "q", "a", "v", "d", "why", at, []string{"t1", "t2"}, []string{"g"}}
	sa := temporal.NewSearchAttributes(all.Updates()...)
	if sa.Size() != len(keys) {
		t.Errorf("%d attributes set, want %d", sa.Size(), len(keys))
	}
	for key, want := range map[temporal.SearchAttributeKeyKeyword]string{
		KeyKind: "k", KeyBackupID: "b", KeyRepository: "r", KeyCluster: "c",
		KeyPhase: "p", KeyState: "s", KeyRequester: "q", KeyApproval: "a", KeyApprover: "v",
	} {
		if got, _ := sa.GetKeyword(key); got != want {
			t.Errorf("%s is %q, want %q", key.GetName(), got, want)
		}
	}
	for key, want := range map[temporal.SearchAttributeKeyString]string{KeyPlan: "d", KeyReason: "why"} {
		if got, _ := sa.GetString(key); got != want {
			t.Errorf("%s is %q, want %q", key.GetName(), got, want)
		}
	}
	if got, _ := sa.GetTime(KeyDecidedAt); !got.Equal(at) {
		t.Errorf("decided at %v", got)
	}
	if got, _ := sa.GetKeywordList(KeyTopics); !slices.Equal(got, all.Topics) {
		t.Errorf("topics %v", got)
	}
	if got, _ := sa.GetKeywordList(KeyGroups); !slices.Equal(got, all.Groups) {
		t.Errorf("groups %v", got)
	}
}

// Whatever the values, the encoded attributes are within the service's limits,
// and a list is a start of what was given with the rest counted.
func TestUpdatesFitTheLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.String(), rapid.StringN(200, 300, -1), rapid.StringMatching(`[a-z.]{1,80}`))
		list := rapid.SliceOfN(value, 1, 300).Draw(t, "list")
		phase := value.Draw(t, "phase")

		if got := cutKeyword(phase); utf8.RuneCountInString(got) > 255 || !strings.HasPrefix(phase, got) {
			t.Errorf("keyword %q", got)
		}
		got := cutList(list)
		payload, err := converter.GetDefaultDataConverter().ToPayload(got)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(payload.Data); n > 2048 {
			t.Fatalf("%d bytes", n)
		}
		var back []string
		if err := json.Unmarshal(payload.Data, &back); err != nil {
			t.Fatal(err)
		}
		whole := len(got)
		if len(got) != len(list) || cutKeyword(list[len(list)-1]) != got[len(got)-1] {
			whole--
			if want := fmt.Sprintf("+%d more", len(list)-whole); got[whole] != want {
				t.Fatalf("the end is %q, want %q", got[whole], want)
			}
		}
		for i := range whole {
			if got[i] != cutKeyword(list[i]) {
				t.Fatalf("value %d is %q, want %q", i, got[i], list[i])
			}
		}
	})
}

// A workflow sets attributes if it was started with them, and does without if
// the namespace lacks them.
func TestUpsertOnlyWhereStartedWith(t *testing.T) {
	for name, r := range map[string]Registration{"complete": {}, "incomplete": {Missing: []string{KeyPhase.GetName()}}} {
		t.Run(name, func(t *testing.T) {
			env := (&testsuite.WorkflowTestSuite{}).NewTestWorkflowEnvironment()
			env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // however busy the machine is
			env.SetTestTimeout(time.Minute)
			if err := env.SetTypedSearchAttributesOnStart(r.Start(Attributes{Kind: "backup", Phase: "plan"})); err != nil {
				t.Fatal(err)
			}
			var phase string
			var set bool
			env.ExecuteWorkflow(func(ctx workflow.Context) error {
				err := Upsert(ctx, Attributes{Phase: "done"})
				phase, set = workflow.GetTypedSearchAttributes(ctx).GetKeyword(KeyPhase)
				return err
			})
			if err := env.GetWorkflowError(); err != nil {
				t.Fatal(err)
			}
			if set != r.Complete() || (set && phase != "done") {
				t.Errorf("phase is %q (set: %v)", phase, set)
			}
		})
	}
}

func TestRegistrationWarning(t *testing.T) {
	if w := (Registration{}).Warning(); w != "" {
		t.Errorf("nothing to warn of, but: %s", w)
	}
	types := SearchAttributeTypes()
	has := map[string]enums.IndexedValueType{}
	for name, typ := range types {
		has[name] = typ
	}
	delete(has, KeyTopics.GetName())
	has[KeyPhase.GetName()] = enums.INDEXED_VALUE_TYPE_TEXT
	r := Registration{Namespace: "ns"}
	r.Missing, r.WrongType = compare(types, has)
	if r.Complete() || r.Start(Attributes{Kind: "k"}).Size() != 0 {
		t.Errorf("%+v counts as complete", r)
	}
	for _, word := range []string{`"ns"`, "lacks KafkaBackupTopics", "KafkaBackupTopics=KeywordList", "KafkaBackupPhase with another type"} {
		if w := r.Warning(); !strings.Contains(w, word) {
			t.Errorf("%q does not say %q", w, word)
		}
	}
}

// One that waits again was decided on by nobody yet.
func TestWaitingClearsTheDecisionBefore(t *testing.T) {
	before := Attributes{Approval: "approved", Approver: "alice", Reason: "looks right", DecidedAt: time.Unix(1, 0)}
	sa := temporal.NewSearchAttributes(append(before.Updates(), Attributes{Approval: "waiting"}.Updates()...)...)
	for _, k := range []temporal.SearchAttributeKey{KeyApprover, KeyReason, KeyDecidedAt} {
		if sa.ContainsKey(k) {
			t.Errorf("%s is still set", k.GetName())
		}
	}
	if got, _ := sa.GetKeyword(KeyApproval); got != "waiting" {
		t.Errorf("approval is %q", got)
	}
}
