// Package activities is the thin layer between workflows and the packages
// that do the work: it takes an activity's arguments, opens what they name,
// calls internal/..., sends heartbeats, and gives errors their class.
//
// Every activity is idempotent: it finds out from the repository and the
// brokers what earlier attempts have done and goes on from there. A heartbeat
// carries a [Watermark]; it is for people to look at and is never read back.
package activities
