package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/smithy-go/logging"
)

// newLogger returns a logger that writes a JSON object a line, with the names that Lambda's own
// lines have.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(withRequest{slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level, ReplaceAttr: lambdacontext.ReplaceAttr,
	})})
}

// withRequest adds the id of the invocation to each line.
type withRequest struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h withRequest) Handle(ctx context.Context, r slog.Record) error {
	if invocation, ok := lambdacontext.FromContext(ctx); ok {
		r = r.Clone()
		r.AddAttrs(slog.String("requestId", invocation.AwsRequestID))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h withRequest) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withRequest{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h withRequest) WithGroup(name string) slog.Handler {
	return withRequest{h.Handler.WithGroup(name)}
}

// forSDK returns a logger for the AWS SDK, which has its own notion of one.
func forSDK(l *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(kind logging.Classification, format string, values ...any) {
		level := slog.LevelDebug
		if kind == logging.Warn {
			level = slog.LevelWarn
		}
		l.Log(context.Background(), level, "the AWS SDK says: "+fmt.Sprintf(format, values...))
	})
}
