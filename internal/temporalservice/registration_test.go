package temporalservice

import (
	"context"
	"maps"
	"testing"

	"go.temporal.io/api/enums/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestEnsureSearchAttributes(t *testing.T) {
	denied := status.Error(codes.PermissionDenied, "not yours")
	all := SearchAttributeTypes()
	some := maps.Clone(all)
	delete(some, KeyTopics.GetName())
	mixed := maps.Clone(all)
	mixed[KeyPhase.GetName()] = enums.INDEXED_VALUE_TYPE_TEXT

	for name, c := range map[string]struct {
		fake           *fake
		missing, wrong int
		added          int  // calls
		reason         bool // Err is set
	}{
		"none there":                   {&fake{}, 0, 0, 1, false},
		"one is missing":               {&fake{attributes: maps.Clone(some)}, 0, 0, 1, false},
		"all there":                    {&fake{attributes: all}, 0, 0, 0, false},
		"known late":                   {&fake{lagQueries: 3}, 0, 0, 1, false},
		"another added them meanwhile": {&fake{add: status.Error(codes.AlreadyExists, "x"), attributes: all, list: denied, lagQueries: 1}, 0, 0, 1, false},
		"wrong type":                   {&fake{attributes: mixed}, 0, 1, 0, false},
		"may not add":                  {&fake{attributes: maps.Clone(some), add: denied}, 1, 0, 1, true},
		"no room":                      {&fake{add: status.Error(codes.InvalidArgument, "no room")}, len(all), 0, 1, true},
		"may not even list":            {&fake{list: denied, add: denied}, len(all), 0, 1, true},
		"may not list, all there":      {&fake{list: denied, add: denied, attributes: all}, 0, 0, 0, false},
		"service without operators":    {&fake{list: status.Error(codes.Unimplemented, "x"), add: status.Error(codes.Unimplemented, "x")}, len(all), 0, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := Dial(context.Background(), load(t, Options{Address: c.fake.serve(t)}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			r, err := EnsureSearchAttributes(context.Background(), conn, "ns")
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Missing) != c.missing || len(r.WrongType) != c.wrong || (r.Err != nil) != c.reason || c.fake.added != c.added {
				t.Errorf("%+v, %d calls to add; want %d missing, %d of wrong type, %d calls", r, c.fake.added, c.missing, c.wrong, c.added)
			}
			if complete := c.missing+c.wrong == 0; r.Complete() != complete || (r.Warning() == "") != complete {
				t.Errorf("complete %v, warning %q", r.Complete(), r.Warning())
			}
		})
	}
}

// A service that cannot be asked is an error, not a namespace without attributes.
func TestEnsureSearchAttributesFails(t *testing.T) {
	f := &fake{list: status.Error(codes.FailedPrecondition, "not now")}
	conn, err := Dial(context.Background(), load(t, Options{Address: f.serve(t)}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if r, err := EnsureSearchAttributes(context.Background(), conn, "ns"); err == nil {
		t.Errorf("no error, but %+v", r)
	}
}
