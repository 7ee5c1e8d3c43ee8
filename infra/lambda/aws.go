package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/smithy-go/logging"

	"parley/functions/stream"
)

// cloudConfig reads the credentials of the role, which Lambda sets in the environment and which outlive
// the process. The SDK's own loader has clients for a dozen other sources, which would make the binary
// an eighth larger.
func cloudConfig(getenv func(string) string, region string, logger *slog.Logger) (aws.Config, error) {
	key, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	if key == "" || secret == "" {
		return aws.Config{}, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set: Lambda sets them")
	}
	return aws.Config{
		Region:        region,
		Credentials:   credentials.NewStaticCredentialsProvider(key, secret, getenv("AWS_SESSION_TOKEN")),
		Logger:        forSDK(logger),
		HTTPClient:    httpClient().WithTimeout(callTimeout),
		ConfigSources: []any{endpoints(getenv)},
	}, nil
}

// maxIdle is how many idle connections to a service are kept: a full batch saves 32 views
// concurrently. The SDK keeps 10 by default; the others would be opened anew for each batch.
const maxIdle = 64

// callTimeout bounds one attempt of a call to a service, where its client has no limit of its own. Without it a
// connection that died while the process was frozen would use up the time of a whole invocation.
const callTimeout = 3 * time.Second

func httpClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.MaxIdleConnsPerHost = maxIdle })
}

// endpoints reads the URL of a service that is not at AWS: AWS_ENDPOINT_URL_DYNAMODB is that of
// DynamoDB, as in the SDK's own loader, and AWS_ENDPOINT_URL that of all services.
type endpoints func(name string) string

// GetServiceBaseEndpoint implements the interface that the SDK's clients look for in ConfigSources.
func (e endpoints) GetServiceBaseEndpoint(_ context.Context, service string) (string, bool, error) {
	const variable = "AWS_ENDPOINT_URL"
	url := cmp.Or(e(variable+"_"+strings.ReplaceAll(strings.ToUpper(service), " ", "_")), e(variable))
	return url, url != "", nil
}

// newLogger returns a logger that writes one JSON object a line, with the field names of Lambda's own
// lines.
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

// forSDK adapts a logger to the interface of the AWS SDK.
func forSDK(l *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(kind logging.Classification, format string, values ...any) {
		level := slog.LevelDebug
		if kind == logging.Warn {
			level = slog.LevelWarn
		}
		l.Log(context.Background(), level, "AWS SDK: "+fmt.Sprintf(format, values...))
	})
}

// bus is an EventBridge bus.
type bus struct {
	client *eventbridge.Client
	name   string
}

var _ stream.Bus = (*bus)(nil)

// openBus returns the bus of this name, after it made sure that it exists: PutEvents to a bus that does
// not exist succeeds and drops the events. The function's role needs events:DescribeEventBus for it.
func openBus(ctx context.Context, cloud aws.Config, name string) (*bus, error) {
	b := &bus{eventbridge.NewFromConfig(cloud), name}
	_, err := b.client.DescribeEventBus(ctx, &eventbridge.DescribeEventBusInput{Name: aws.String(name)})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("there is no event bus %q in this region", name)
	}
	if err != nil {
		return nil, fmt.Errorf("look up the event bus %q: %w", name, err)
	}
	return b, nil
}

// Publish implements [stream.Bus]. Which errors of an entry pass is in the reference of PutEventsResultEntry.
func (b *bus) Publish(ctx context.Context, entries []stream.Entry) ([]error, error) {
	request := make([]types.PutEventsRequestEntry, len(entries))
	for i, e := range entries {
		request[i] = types.PutEventsRequestEntry{
			EventBusName: aws.String(b.name),
			Source:       aws.String(e.Source),
			DetailType:   aws.String(e.DetailType),
			Detail:       aws.String(string(e.Detail)),
			Time:         aws.Time(e.Time),
		}
	}
	answer, err := b.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: request})
	if err != nil {
		return nil, fmt.Errorf("put %d events on the bus: %w", len(entries), err)
	}
	if len(answer.Entries) != len(entries) {
		return nil, fmt.Errorf("put %d events on the bus: the answer is about %d", len(entries), len(answer.Entries))
	}
	refused := make([]error, len(entries))
	for i, e := range answer.Entries {
		switch code := aws.ToString(e.ErrorCode); code {
		case "":
		case "ThrottlingException", "InternalFailure", "InternalException", "ServiceUnavailable":
			refused[i] = fmt.Errorf("%w: %s", stream.ErrBusy, code)
		default:
			refused[i] = fmt.Errorf("the bus refused the event: %s: %s", code, aws.ToString(e.ErrorMessage))
		}
	}
	return refused, nil
}
