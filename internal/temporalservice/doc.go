// Package temporalservice is everything the product has to do with a Temporal
// service that is not a workflow: which service to talk to (Profile), the
// connection to it (Dial), the search attributes by which operations are found
// in it, the links into its Web UI, and the embedded server as a child process
// (StartServer).
//
// Invariants:
//
//   - Any Temporal service will do: nothing here needs the embedded server.
//     A service is chosen the way Temporal's own tools choose it (the profiles
//     of temporal.toml and the TEMPORAL_* environment variables, by
//     go.temporal.io/sdk/contrib/envconfig), and by flags, which win.
//   - No call waits for ever. Dial gives up after DialTimeout, StartServer
//     after ServerOptions.ReadyTimeout.
//   - Errors say which service, what is wrong, and what to do: they are
//     *ProfileError, *DialError and *ServerError, told apart by their Reason
//     and never by their text.
//   - The API key is never printed, marshalled or put into an error.
//   - Search attributes are used all or none. A namespace that lacks one of
//     them (and does not let us add it) is served without: operations run the
//     same and only cannot be found by attribute. See Registration.
//   - A server started by StartServer does not outlive the process that
//     started it, even if that is killed with -9.
package temporalservice
