package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

func TestRetryable(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{context.Canceled, false},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), false},
		{kerr.NotLeaderForPartition, true},
		{kerr.CoordinatorLoadInProgress, true},
		{kerr.LeaderNotAvailable, true},
		{kerr.UnknownTopicOrPartition, false}, // does not exist
		{kerr.UnknownTopicID, false},
		{kerr.TopicAuthorizationFailed, false},
		{kerr.InvalidConfig, false},
		{kerr.UnsupportedVersion, false},
		{io.EOF, true},
		{syscall.ECONNREFUSED, true},
		{ErrMorePartitions, false},
		{&config.SecretError{}, false},
		{&config.Error{}, false},
		{&ConnectError{Reason: Refused}, true},
		{&ConnectError{Reason: BadCredentials}, false},
		{groupError("x", "g", kerr.NotCoordinator), true},
		{partial("x", []*Error{groupError("x", "g", kerr.NotCoordinator), groupError("x", "h", kerr.GroupAuthorizationFailed)}), false},
		{partial("x", []*Error{groupError("x", "g", kerr.NotCoordinator), groupError("x", "h", io.EOF)}), true},
	} {
		if got := Retryable(tc.err); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	var many []*Error
	for i := range 9 {
		many = append(many, partitionError("list offsets", tp("orders", int32(i)), kerr.TopicAuthorizationFailed))
	}
	text := partial("list offsets", many).Error()
	for _, part := range []string{"9 failed", "topic orders partition 4: TOPIC_AUTHORIZATION_FAILED", "and 4 more"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
	if strings.Contains(text, "partition 5") || strings.Count(text, Hint(kerr.TopicAuthorizationFailed)) != 1 {
		t.Errorf("too much: %q", text)
	}
	if partial("x", nil) != nil {
		t.Error("nothing failed and there is an error")
	}
	for reason := range strings.FieldsSeq("bad_configuration unresolvable refused timed_out unreachable cancelled not_kafka not_a_broker tls_expected tls_not_spoken tls_failed unknown_ca hostname_mismatch certificate_invalid client_certificate_required client_certificate_refused sasl_expected sasl_not_spoken mechanism_not_enabled bad_credentials token_refused token_endpoint advertised_address no_rights") {
		if what, _ := (&ConnectError{Reason: Reason(reason)}).text(); what == reason {
			t.Errorf("no words for %s", reason)
		}
	}
}

// What is transient is asked for again; what was answered is not.
func TestByPartition(t *testing.T) {
	c := &Cluster{patience: time.Minute}
	parts := []TopicPartition{tp("a", 0), tp("a", 1), tp("b", 0), tp("b", 1)}
	asked := map[TopicPartition]int{}
	got, err := byPartition(t.Context(), c, "ask", 3, parts, func(_ context.Context, parts []TopicPartition, a *answers[int]) {
		if len(parts) > 3 {
			t.Errorf("%d at once", len(parts))
		}
		for _, p := range parts {
			asked[p]++
			switch {
			case p == tp("a", 1) && asked[p] < 3:
				a.failed[p] = kerr.NotLeaderForPartition
			case p == tp("b", 0):
				a.failed[p] = kerr.TopicAuthorizationFailed
			default:
				a.got[p] = asked[p]
			}
		}
	})
	if len(got) != 3 || got[tp("a", 0)] != 1 || got[tp("a", 1)] != 3 || got[tp("b", 1)] != 1 || asked[tp("b", 0)] != 1 {
		t.Errorf("%v after %v", got, asked)
	}
	if failed := failures(t, err); len(failed) != 1 || failed[0].Topic != "b" || !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("%v", err)
	}
}

func TestByPartitionGivesUp(t *testing.T) {
	c := &Cluster{patience: 150 * time.Millisecond}
	_, err := byPartition(t.Context(), c, "ask", 3, []TopicPartition{tp("a", 0)}, func(_ context.Context, parts []TopicPartition, a *answers[int]) {
		a.failed[parts[0]] = kerr.NotLeaderForPartition
	})
	if !errors.Is(err, kerr.NotLeaderForPartition) || !Retryable(err) {
		t.Errorf("%v", err)
	}
	_, err = byPartition(t.Context(), c, "ask", 3, []TopicPartition{tp("a", 0)}, func(context.Context, []TopicPartition, *answers[int]) {})
	if !errors.Is(err, errNoAnswer) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = byPartition(ctx, c, "ask", 3, []TopicPartition{tp("a", 0)}, func(context.Context, []TopicPartition, *answers[int]) {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
