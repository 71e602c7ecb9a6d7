package kafka

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Right is what an ACL allows, in Kafka's words.
type Right struct {
	Operation string // READ, DESCRIBE, ...
	Resource  string // TOPIC or GROUP
	Name      string // of the topic or group
}

// String returns, for example, READ on GROUP order-processor.
func (r Right) String() string { return r.Operation + " on " + r.Resource + " " + r.Name }

// NoRightError says that the cluster's ACLs do not allow something.
type NoRightError struct {
	Right
	Principal string // who asks, for example User:alice; empty: not known
}

func (e *NoRightError) Error() string {
	who := e.Principal
	if who == "" {
		who = "the user"
	}
	return fmt.Sprintf("%s lacks %s", who, e.Right)
}

// Operations are the ACL operations that who asks may do with a topic or a group (KIP-430), one bit
// each. Zero: not known.
type Operations int32

// operations reads them from an answer. The smallest number stands for not asked, or not known.
func operations(bits int32) Operations { return Operations(max(bits, 0)) }

// Allows tells whether an operation is allowed, or may be, when that is not known.
func (o Operations) Allows(op kmsg.ACLOperation) bool { return o == 0 || o&(1<<op) != 0 }

// Lacks returns the right to do op with a resource as an error when o does not allow it; nil otherwise.
func (c *Cluster) Lacks(o Operations, op kmsg.ACLOperation, resource kmsg.ACLResourceType, name string) error {
	if o.Allows(op) {
		return nil
	}
	return &NoRightError{Right{op.String(), resource.String(), name}, c.principal}
}

// Principal is who asks, as brokers call it by default (User:alice); empty when that is not known, as
// with tokens.
func (c *Cluster) Principal() string { return c.principal }

// SeesAll tells whether who asks may do everything with the cluster, as super users may, and everybody
// where there are no ACLs. From others the brokers hide groups, topics, and groups' committed offsets on
// topics for which DESCRIBE is missing, and do not say so.
func (c *Cluster) SeesAll(ctx context.Context) (bool, error) {
	if !c.Supports(kmsg.DescribeCluster, 0) {
		return true, nil // before 2.8
	}
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeClusterAuthorizedOperations = true
	resp, err := req.RequestWith(ctx, c.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return false, &Error{Op: "describe the cluster", Partition: -1, Broker: -1, Err: err}
	}
	may := Operations(resp.ClusterAuthorizedOperations)
	if may < 0 {
		return true, nil
	}
	return may&(1<<kmsg.ACLOperationAlter) != 0 && may&(1<<kmsg.ACLOperationClusterAction) != 0, nil
}

// principal is who the brokers will take us for.
func (s *security) principal(sec config.Security) string {
	switch {
	case s.name == "OAUTHBEARER":
		return "" // which claim it is, the brokers decide
	case s.name != "":
		return "User:" + sec.SASLUsername
	case s.tls != nil && len(s.tls.Certificates) > 0:
		cert, err := x509.ParseCertificate(s.tls.Certificates[0].Certificate[0])
		if err != nil {
			return ""
		}
		return "User:" + cert.Subject.String()
	}
	return "User:ANONYMOUS"
}

// needs are the operations that requests need on groups and topics, by [Error.Op].
var needs = map[string]struct{ group, topic kmsg.ACLOperation }{
	opFetchOffsets:   {kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribe},
	opCommitOffsets:  {kmsg.ACLOperationRead, kmsg.ACLOperationRead},
	opDeleteOffsets:  {kmsg.ACLOperationDelete, kmsg.ACLOperationRead},
	opDescribeGroups: {kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribe},
	opFindTopics:     {topic: kmsg.ACLOperationDescribe},
	opStartOffsets:   {topic: kmsg.ACLOperationDescribe},
	opEndOffsets:     {topic: kmsg.ACLOperationDescribe},
	opOffsetsForTime: {topic: kmsg.ACLOperationDescribe},
}

// right returns the right that is missing, where the error says that one is.
func (e *Error) right() *NoRightError {
	need, ok := needs[e.Op]
	switch {
	case !ok:
	case e.Group != "" && errors.Is(e.Err, kerr.GroupAuthorizationFailed):
		return &NoRightError{Right{need.group.String(), kmsg.ACLResourceTypeGroup.String(), e.Group}, e.Principal}
	case e.Topic != "" && errors.Is(e.Err, kerr.TopicAuthorizationFailed):
		return &NoRightError{Right{need.topic.String(), kmsg.ACLResourceTypeTopic.String(), e.Topic}, e.Principal}
	}
	return nil
}

// asked notes in errors who asked.
func (c *Cluster) asked(err error) error {
	var some *PartialError
	var one *Error
	if errors.As(err, &some) {
		for _, e := range some.Failed {
			e.Principal = c.principal
		}
	} else if errors.As(err, &one) {
		one.Principal = c.principal
	}
	return err
}
