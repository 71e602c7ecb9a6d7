// Package workflows is what the product does, as runbooks: one operation a
// file, each opening with its promise.
//
// A workflow here decides and waits; it moves no data. Its payloads are small
// whatever the size of the work: what grows is written to the repository by
// activities and named by its key. The data types of its requests and results
// are plain values.
package workflows
