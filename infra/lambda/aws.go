package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// cloudConfig reads what Lambda sets for a process: the credentials of its role, which outlive the
// process. The SDK's own loader looks in a dozen other places, with clients of its own that would
// make the binary an eighth larger.
func cloudConfig(getenv func(string) string, region string, logger *slog.Logger) (aws.Config, error) {
	key, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	if key == "" || secret == "" {
		return aws.Config{}, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set: Lambda sets them")
	}
	return aws.Config{
		Region:        region,
		Credentials:   credentials.NewStaticCredentialsProvider(key, secret, getenv("AWS_SESSION_TOKEN")),
		Logger:        forSDK(logger),
		HTTPClient:    httpClient(),
		ConfigSources: []any{endpoints(getenv)},
	}, nil
}

// calls is how many calls to one service are under way at once: a full batch saves 32 views side by
// side. The SDK keeps 10 connections by itself; the others would be made anew for each batch.
const calls = 64

func httpClient() aws.HTTPClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.MaxIdleConnsPerHost = calls })
}

// endpoints finds out where a service is, if not at AWS: AWS_ENDPOINT_URL_DYNAMODB says it for
// DynamoDB, as in the SDK's own tools. AWS_ENDPOINT_URL says it for all.
type endpoints func(name string) string

// GetServiceBaseEndpoint is what the SDK's clients ask.
func (e endpoints) GetServiceBaseEndpoint(_ context.Context, service string) (string, bool, error) {
	const variable = "AWS_ENDPOINT_URL"
	url := cmp.Or(e(variable+"_"+strings.ReplaceAll(strings.ToUpper(service), " ", "_")), e(variable))
	return url, url != "", nil
}
