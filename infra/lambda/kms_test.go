package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"parley/events"
)

// kmsKey is the key of the tests, which each region knows by the same id.
const kmsKey = "mrk-0123456789abcdef0123456789abcdef"

// keyService speaks so much of KMS's protocol, AWS JSON 1.1, as is used: Encrypt and Decrypt, with
// one multi-Region key. It really encrypts, and binds what it encrypted to the context.
type keyService struct {
	t    testing.TB
	url  string
	root cipher.AEAD

	mu     sync.Mutex
	calls  map[string]int
	refuse func(operation string, call int) (status int, code string) // 0: it is not refused
}

// kmsCall is what is asked.
type kmsCall struct {
	KeyId                     string //nolint:revive,staticcheck // as KMS spells it
	Plaintext, CiphertextBlob []byte
	EncryptionContext         map[string]string
}

func newKeyService(t testing.TB) *keyService {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	root, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	k := &keyService{t: t, root: root, calls: map[string]int{}}
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	k.url = server.URL
	return k
}

// set changes how it behaves, and counts from 0 again.
func (k *keyService) set(refuse func(operation string, call int) (int, string)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = refuse
	clear(k.calls)
}

// counts is how often an operation was called.
func (k *keyService) counts(operation string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls[operation]
}

// ServeHTTP implements [http.Handler].
func (k *keyService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in kmsCall
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		answerAWS(w, http.StatusBadRequest, map[string]string{"__type": "SerializationException"})
		return
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "TrentService.")
	if status, code := k.refuses(operation, in); code != "" {
		answerAWS(w, status, map[string]string{"__type": code, "message": "refused by a test, of secret things"})
		return
	}
	bound, err := json.Marshal(in.EncryptionContext)
	if err != nil || len(in.EncryptionContext) != 1 || in.EncryptionContext["parley:user"] == "" {
		k.t.Errorf("the encryption context is %v", in.EncryptionContext)
	}
	switch operation {
	case "Encrypt":
		blob := k.root.Seal(nil, nil, in.Plaintext, bound)
		answerAWS(w, http.StatusOK, map[string]any{"CiphertextBlob": blob, "KeyId": in.KeyId, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
	case "Decrypt":
		plain, err := k.root.Open(nil, nil, in.CiphertextBlob, bound)
		if err != nil {
			answerAWS(w, http.StatusBadRequest, map[string]any{"__type": "InvalidCiphertextException", "message": nil})
			return
		}
		answerAWS(w, http.StatusOK, map[string]any{"Plaintext": plain, "KeyId": in.KeyId, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
	default:
		answerAWS(w, http.StatusBadRequest, map[string]string{"__type": "UnknownOperationException"})
	}
}

func (k *keyService) refuses(operation string, in kmsCall) (status int, code string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls[operation]++
	if k.refuse != nil {
		if status, code := k.refuse(operation, k.calls[operation]); code != "" {
			return status, code
		}
	}
	if in.KeyId != kmsKey && !strings.HasSuffix(in.KeyId, ":key/"+kmsKey) {
		return http.StatusBadRequest, "NotFoundException"
	}
	return 0, ""
}

// wrapper returns a wrapper in a region.
func (k *keyService) wrapper(region, key string) *kmsWrapper {
	cfg := at(k.url)
	cfg.Region = region
	return newKMS(cfg, key)
}

func TestKMS(t *testing.T) {
	k := newKeyService(t)
	checkKMS(t, k.wrapper("eu-west-1", kmsKey), k.wrapper("us-east-1", "arn:aws:kms:us-east-1:123456789012:key/"+kmsKey))
}

// checkKMS wraps in one region and unwraps in another.
func checkKMS(t *testing.T, here, there *kmsWrapper) {
	t.Helper()
	const secret = "0123456789abcdef0123456789abcdef"
	wrapped, err := here.Wrap(t.Context(), "ada", []byte(secret))
	if err != nil || strings.Contains(string(wrapped), secret) {
		t.Fatalf("Wrap: %q, %v", wrapped, err)
	}
	if key, err := there.Unwrap(t.Context(), "ada", wrapped); err != nil || string(key) != secret {
		t.Errorf("Unwrap in another region: %q, %v", key, err)
	}
	wrapped[len(wrapped)-1] ^= 1
	_, damaged := there.Unwrap(t.Context(), "ada", wrapped)
	wrapped[len(wrapped)-1] ^= 1
	_, foreign := there.Unwrap(t.Context(), "bob", wrapped)
	for what, err := range map[string]error{"another user's": foreign, "damaged": damaged} {
		if err == nil || err.Error() != "unwrap a data key: it was not wrapped for this user with the key that PARLEY_KMS_KEY names (InvalidCiphertextException)" ||
			errors.Is(err, events.ErrUnavailable) || errors.Is(err, events.ErrThrottled) {
			t.Errorf("Unwrap of what is %s: %v", what, err)
		}
	}
}

// What passes is tried again, and reported in the log's words if it does not pass; what does not is
// reported at once, and says what to look at.
func TestKMSRefuses(t *testing.T) {
	k := newKeyService(t)
	w := k.wrapper("eu-west-1", kmsKey)
	wrapped, err := w.Wrap(t.Context(), "ada", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	const hint = ": is the key that PARLEY_KMS_KEY names there and enabled, and may this function use it?"
	for _, tt := range []struct {
		status int
		code   string
		tries  int
		says   string
		is     error
	}{
		{http.StatusBadRequest, "ThrottlingException", kmsAttempts, "KMS says ThrottlingException", events.ErrThrottled},
		{http.StatusInternalServerError, "KMSInternalException", kmsAttempts, "KMS says KMSInternalException", events.ErrUnavailable},
		{http.StatusInternalServerError, "KeyUnavailableException", kmsAttempts, "KMS says KeyUnavailableException", events.ErrUnavailable},
		{http.StatusBadRequest, "AccessDeniedException", 1, "KMS says AccessDeniedException" + hint, nil},
		{http.StatusBadRequest, "DisabledException", 1, "KMS says DisabledException" + hint, nil},
	} {
		k.set(func(_ string, call int) (int, string) {
			if call < 3 {
				return tt.status, tt.code
			}
			return 0, ""
		})
		_, err := w.Wrap(t.Context(), "ada", []byte("key"))
		if (err == nil) != (tt.tries > 1) {
			t.Errorf("%s for a while: %v", tt.code, err)
		}
		k.set(func(string, int) (int, string) { return tt.status, tt.code })
		_, unwrap := w.Unwrap(t.Context(), "ada", wrapped)
		if k.counts("Decrypt") != tt.tries {
			t.Errorf("%s: tried %d times, want %d", tt.code, k.counts("Decrypt"), tt.tries)
		}
		if unwrap == nil || unwrap.Error() != "unwrap a data key: "+tt.says ||
			errors.Is(unwrap, events.ErrThrottled) != (tt.is == events.ErrThrottled) ||
			errors.Is(unwrap, events.ErrUnavailable) != (tt.is == events.ErrUnavailable) {
			t.Errorf("%s: %v", tt.code, unwrap)
		}
	}
	k.set(nil)
	if _, err := k.wrapper("eu-west-1", "mrk-another").Wrap(t.Context(), "ada", []byte("key")); err == nil || err.Error() != "wrap a data key: KMS says NotFoundException"+hint {
		t.Errorf("a key that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Unwrap(ctx, "ada", wrapped); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// motoKeys wraps and unwraps through another implementation of KMS. It does not decrypt with
// multi-Region keys.
func motoKeys(t *testing.T, address string) {
	t.Helper()
	made, err := kms.NewFromConfig(at(address)).CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	checkKMS(t, newKMS(at(address), *made.KeyMetadata.Arn), newKMS(at(address), *made.KeyMetadata.KeyId))
}
