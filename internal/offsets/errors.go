package offsets

import "fmt"

// MismatchError says that a committed offset is not what was set: somebody
// else committed in between.
type MismatchError struct{ Want, Got int64 }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("it was set to %s and reads back as %s: somebody else commits for this group (stop its consumers)", place(e.Want), place(e.Got))
}

func place(offset int64) string {
	if offset < 0 {
		return "none"
	}
	return fmt.Sprint(offset)
}
