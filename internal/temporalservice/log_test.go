package temporalservice

import (
	"errors"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestLogger(t *testing.T) {
	core, lines := observer.New(zapcore.InfoLevel)
	l := Logger(zap.New(core).Named("temporal").With(zap.String("worker", "w1")))
	l.Debug("too low to be seen")
	l.Error("attempt failed", "attempt", 3, "error", errors.New("no leader"))

	if lines.Len() != 1 {
		t.Fatalf("%d lines, want 1", lines.Len())
	}
	line := lines.All()[0]
	fields := line.ContextMap()
	if line.Message != "attempt failed" || line.Level != zapcore.ErrorLevel || line.LoggerName != "temporal" || line.Stack != "" ||
		fields["worker"] != "w1" || fields["attempt"] != int64(3) || fields["error"] != "no leader" {
		t.Errorf("line %+v, fields %v", line.Entry, fields)
	}
	Logger(nil).Error("goes nowhere")
}
