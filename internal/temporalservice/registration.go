package temporalservice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc/codes"
)

// Registration says whether a namespace has the product's search attributes.
// If it lacks even one, none is used: a service refuses to start a workflow
// with an attribute that it does not know, and a workflow that sets one is
// stuck. Workflows see it by what they were started with (Start, Upsert).
// The zero value is a namespace that has them all.
type Registration struct {
	// Namespace that was looked at.
	Namespace string
	// Missing are the names of the attributes that it lacks, sorted.
	Missing []string
	// WrongType are the names of attributes that it has, but with another type
	// than ours, sorted.
	WrongType []string
	// Err is why they could not be added: typically no right to (on Temporal
	// Cloud they are added through the cloud's own tools), or no room. Nil if
	// they could.
	Err error
}

// Complete reports whether the attributes can be used.
func (r Registration) Complete() bool { return len(r.Missing) == 0 && len(r.WrongType) == 0 }

// Start returns the search attributes to start a workflow with: a's, or none if
// r is not complete. a.Kind must be set, or the workflow will not Upsert.
func (r Registration) Start(a Attributes) temporal.SearchAttributes {
	if !r.Complete() {
		return temporal.NewSearchAttributes()
	}
	return temporal.NewSearchAttributes(a.Updates()...)
}

// Warning is what a user should know when r is not complete, with the command
// that puts it right; it is empty when r is complete.
func (r Registration) Warning() string {
	if r.Complete() {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "operations run without search attributes, because namespace %q ", r.Namespace)
	if len(r.WrongType) > 0 {
		fmt.Fprintf(&b, "has %s with another type", strings.Join(r.WrongType, ", "))
		if len(r.Missing) > 0 {
			b.WriteString(" and ")
		}
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(&b, "lacks %s", strings.Join(r.Missing, ", "))
	}
	if r.Err != nil {
		fmt.Fprintf(&b, " and they could not be added (%v)", r.Err)
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(&b, "; add each with: temporal operator search-attribute create --namespace %s --name NAME --type TYPE (on Temporal Cloud: tcld namespace search-attributes add), types: ", r.Namespace)
		types := SearchAttributeTypes()
		for i, name := range r.Missing {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s=%v", name, types[name])
		}
	}
	return b.String()
}

// registrationTimeout bounds EnsureSearchAttributes. A service of several
// processes needs some 10 s until all of them know a new attribute
// (system.namespaceCacheRefreshInterval).
const registrationTimeout = 20 * time.Second

// EnsureSearchAttributes adds the product's search attributes to the namespace
// as far as they are not there, and waits until they can be used. It can be
// called any number of times, by any number of processes. Not being allowed to
// add them is no error: the Registration says so. An error means that the
// service could not be asked.
//
// API: OperatorService.ListSearchAttributes and AddSearchAttributes; that they
// can be used is tried with a WorkflowService.CountWorkflowExecutions that
// names them, which needs no more than the right to read.
func EnsureSearchAttributes(ctx context.Context, c client.Client, namespace string) (Registration, error) {
	ctx, cancel := context.WithTimeout(ctx, registrationTimeout)
	defer cancel()
	r := Registration{Namespace: namespace}
	want := SearchAttributeTypes()

	has, err := listAttributes(ctx, c, namespace)
	if err != nil && !refused(err) {
		return r, fmt.Errorf("read the search attributes of Temporal namespace %q: %w", namespace, err)
	}
	if err != nil { // not allowed to list: what counts is whether they can be used
		if usable, err := canUse(ctx, c, namespace); err != nil || usable {
			return r, err
		}
	}
	r.Missing, r.WrongType = compare(want, has)
	if len(r.Missing) == 0 {
		return r, nil
	}

	add := make(map[string]enums.IndexedValueType, len(r.Missing))
	for _, name := range r.Missing {
		add[name] = want[name]
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: add})
	if exists := (*serviceerror.AlreadyExists)(nil); err != nil && !errors.As(err, &exists) {
		if !refused(err) && !isCode(err, codes.InvalidArgument) { // InvalidArgument: no room for more
			return r, fmt.Errorf("add search attributes to Temporal namespace %q: %w", namespace, err)
		}
		r.Err = err
		return r, nil
	}
	for {
		usable, err := canUse(ctx, c, namespace)
		switch {
		case err == nil && usable:
			r.Missing = nil
			return r, nil
		case err != nil && ctx.Err() == nil:
			return r, err
		}
		select {
		case <-ctx.Done():
			r.Err = errors.New("they were added, but the service does not know them yet; try again in a minute")
			return r, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func listAttributes(ctx context.Context, c client.Client, namespace string) (map[string]enums.IndexedValueType, error) {
	resp, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	return resp.GetCustomAttributes(), err
}

// compare says which wanted attributes are not there, and which are with
// another type.
func compare(want, has map[string]enums.IndexedValueType) (missing, wrong []string) {
	for name, t := range want {
		if got, ok := has[name]; !ok {
			missing = append(missing, name)
		} else if got != t {
			wrong = append(wrong, name)
		}
	}
	slices.Sort(missing)
	slices.Sort(wrong)
	return missing, wrong
}

// canUse reports whether the service takes a query that names all attributes.
func canUse(ctx context.Context, c client.Client, namespace string) (bool, error) {
	terms := make([]string, len(keys))
	for i, k := range keys {
		terms[i] = k.GetName() + " IS NULL"
	}
	_, err := c.WorkflowService().CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: namespace, Query: strings.Join(terms, " AND "),
	})
	switch {
	case err == nil:
		return true, nil
	case isCode(err, codes.InvalidArgument):
		return false, nil
	}
	return false, fmt.Errorf("query Temporal namespace %q by search attributes: %w", namespace, err)
}

// refused reports whether the service does not let us do it, now or ever.
func refused(err error) bool {
	return isCode(err, codes.PermissionDenied) || isCode(err, codes.Unauthenticated) || isCode(err, codes.Unimplemented)
}

func isCode(err error, code codes.Code) bool { return serviceerror.ToStatus(err).Code() == code }
