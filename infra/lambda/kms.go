package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"parley/events"
	"parley/events/keys"
)

// kmsWrapper wraps users' data keys with a KMS key, which never leaves KMS. It is a multi-Region key:
// what one region has wrapped with its replica of it, every other region can unwrap with its own.
type kmsWrapper struct {
	client *kms.Client
	key    string // its id, alias or ARN
}

var _ keys.Wrapper = (*kmsWrapper)(nil)

// contextUser is the name in the encryption context under which KMS binds a data key to its user.
// CloudTrail shows it.
const contextUser = "parley:user"

const (
	// kmsAttempts is how often a call is tried. The pauses between take less than 0.7 s in all.
	kmsAttempts = 5
	// kmsTimeout bounds one attempt; about 10 ms are usual.
	kmsTimeout = 2 * time.Second
)

func newKMS(cloud aws.Config, key string) *kmsWrapper {
	return &kmsWrapper{key: key, client: kms.NewFromConfig(cloud, func(o *kms.Options) {
		o.Retryer, o.RetryMaxAttempts = newKMSRetryer(), 0
		if c, is := o.HTTPClient.(*awshttp.BuildableClient); is {
			o.HTTPClient = c.WithTimeout(kmsTimeout)
		}
	})}
}

func newKMSRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = kmsAttempts
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return rand.N(25 * time.Millisecond << attempt), nil
		})
	})
}

// Wrap implements [keys.Wrapper].
func (w *kmsWrapper) Wrap(ctx context.Context, user string, key []byte) ([]byte, error) {
	out, err := w.client.Encrypt(ctx, &kms.EncryptInput{
		KeyId: &w.key, Plaintext: key, EncryptionContext: map[string]string{contextUser: user},
	})
	if err != nil {
		return nil, fmt.Errorf("wrap a data key: %w", &kmsFailure{err})
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements [keys.Wrapper].
func (w *kmsWrapper) Unwrap(ctx context.Context, user string, wrapped []byte) ([]byte, error) {
	out, err := w.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &w.key, CiphertextBlob: wrapped, EncryptionContext: map[string]string{contextUser: user},
	})
	if err != nil {
		return nil, fmt.Errorf("unwrap a data key: %w", &kmsFailure{err})
	}
	return out.Plaintext, nil
}

// kmsFailure is the error of a call. Its text has the error code and what to check, but not the message
// of KMS, which quotes keys and roles.
type kmsFailure struct{ err error }

func (f *kmsFailure) Error() string {
	var answer smithy.APIError
	switch {
	case !errors.As(f.err, &answer):
		return f.err.Error()
	case errors.As(f.err, new(*types.InvalidCiphertextException)), errors.As(f.err, new(*types.IncorrectKeyException)):
		return "the data key was not wrapped for this user with the key that PARLEY_KMS_KEY names (" + answer.ErrorCode() + ")"
	case f.passes():
		return "KMS answered " + answer.ErrorCode()
	default:
		return "KMS answered " + answer.ErrorCode() + ": check that the key that PARLEY_KMS_KEY names exists and is enabled, and that this function may use it"
	}
}

func (f *kmsFailure) Unwrap() error { return f.err }

// Is reports whether the call may succeed later, in the terms of [events.Log], or
// the key is damaged.
func (f *kmsFailure) Is(target error) bool {
	switch target {
	case events.ErrThrottled:
		return f.throttled()
	case events.ErrUnavailable:
		return f.passes() && !f.throttled()
	case keys.ErrDamaged: // not IncorrectKeyException: then the setting is wrong, not the key
		return errors.As(f.err, new(*types.InvalidCiphertextException))
	default:
		return false
	}
}

func (f *kmsFailure) passes() bool { return newKMSRetryer().IsErrorRetryable(f.err) }

func (f *kmsFailure) throttled() bool {
	return retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(f.err) == aws.TrueTernary
}
