package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"parley/events"
)

// streamAgain has the stream function handle an event again: it alone may fold, publish and push.
// It speaks to Lambda by itself: the SDK's client would make the binary a tenth larger for one call.
type streamAgain struct {
	cloud    aws.Config
	endpoint string // of Lambda
	function string
}

func newStreamAgain(cloud aws.Config, function string) *streamAgain {
	suffix := ".amazonaws.com"
	if strings.HasPrefix(cloud.Region, "cn-") {
		suffix += ".cn"
	}
	endpoint := cmp.Or(os.Getenv("AWS_ENDPOINT_URL_LAMBDA"), "https://lambda."+cloud.Region+suffix)
	return &streamAgain{cloud, endpoint, function}
}

// retryRequest is what the stream function is invoked with to handle an event of the log again, and
// retryAnswer what it answers.
type retryRequest struct {
	Retry events.Key `json:"retry"`
}

type retryAnswer struct {
	Error string `json:"error,omitempty"` // why it is parked again; "": it was handled
}

// maxAgain bounds the answer.
const maxAgain = 1 << 20

func (s *streamAgain) retry(ctx context.Context, e events.Event) error {
	payload, err := json.Marshal(retryRequest{events.Key{Stream: e.Stream, ID: e.ID}})
	if err != nil {
		return fmt.Errorf("handle an event again: %w", err)
	}
	body, err := s.invoke(ctx, payload)
	if err != nil {
		return fmt.Errorf("invoke the stream function to handle an event again: %w", err)
	}
	var answer retryAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("the stream function's answer to a retry: %w", err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// invoke invokes the function and waits for its answer.
func (s *streamAgain) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	to := s.endpoint + "/2015-03-31/functions/" + url.PathEscape(s.function) + "/invocations"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	credentials, err := s.cloud.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), "lambda", s.cloud.Region, time.Now()); err != nil {
		return nil, err
	}
	answer, err := s.cloud.HTTPClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAgain))
	switch {
	case err != nil:
		return nil, err
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the answer is %d", answer.StatusCode)
	case answer.Header.Get("X-Amz-Function-Error") != "":
		return nil, errors.New("it failed")
	}
	return body, nil
}
