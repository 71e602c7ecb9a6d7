package temporalservice

import (
	"log/slog"
	"math"

	"go.temporal.io/sdk/log"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
)

// Logger returns the logger for an SDK client or worker that writes to l, with
// l's level and fields. Lines carry no stack traces: the SDK logs an error that
// it goes on from (a failed activity attempt), and those are ordinary here. A
// nil l logs nothing.
func Logger(l *zap.Logger) log.Logger {
	if l == nil {
		l = zap.NewNop()
	}
	never := zapslog.AddStacktraceAt(slog.Level(math.MaxInt32))
	return log.NewStructuredLogger(slog.New(zapslog.NewHandler(l.Core(), zapslog.WithName(l.Name()), never)))
}
