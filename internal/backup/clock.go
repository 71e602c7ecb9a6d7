package backup

import "time"

// Clock is where the times come from that stand in plans, captures and
// manifests. Tests that skip time replace it, before any backup is made.
var Clock = time.Now
