package awstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5" //nolint:gosec // SQS answers it, and the SDK compares
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// BusName is the name of the one bus that [Bus] has.
const BusName = "parley"

// Bus plays EventBridge: DescribeEventBus and PutEvents of one bus. Like EventBridge it answers success
// to entries for any other bus, and drops them.
type Bus struct {
	URL string

	mu     sync.Mutex
	taken  []Entry
	calls  int
	refuse func(Entry) (code string)
	fail   func(call int) bool
}

// Entry is an entry that was put on the bus.
type Entry struct {
	EventBusName, Source, DetailType, Detail string
	Time                                     float64 // in Unix seconds
}

// ID returns the id of the event in an entry, "" if there is none.
func (e Entry) ID() string {
	var detail struct{ ID string }
	_ = json.Unmarshal([]byte(e.Detail), &detail) // "" if it is not JSON
	return detail.ID
}

// NewBus starts a bus.
func NewBus(t testing.TB) *Bus {
	b := &Bus{}
	b.URL = serveJSON(t, "AWSEvents", b.answer)
	return b
}

// Set makes the bus fail, or, with nil, work again: refuse returns the error code for an entry, "" to
// accept it; fail reports whether a whole call fails, counted from 1 from now on. Both are called
// under the lock of the bus.
func (b *Bus) Set(refuse func(Entry) (code string), fail func(call int) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse, b.fail, b.calls = refuse, fail, 0
}

// Entries returns the entries on the bus, in the order in which they were put.
func (b *Bus) Entries() []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.taken)
}

// Counts returns how often each event is on the bus, by id.
func (b *Bus) Counts() map[string]int {
	counts := map[string]int{}
	for _, e := range b.Entries() {
		counts[e.ID()]++
	}
	return counts
}

func (b *Bus) answer(c call) (int, any) {
	var in struct {
		Name    string
		Entries []Entry
	}
	if err := c.decode(&in); err != nil {
		return failure(http.StatusBadRequest, "SerializationException", "")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case c.operation == "DescribeEventBus" && in.Name == BusName:
		return http.StatusOK, map[string]string{"Name": in.Name, "Arn": "arn:aws:events:" + Region + ":" + Account + ":event-bus/" + BusName}
	case c.operation == "DescribeEventBus":
		return failure(http.StatusBadRequest, "ResourceNotFoundException", "Event bus "+in.Name+" does not exist.")
	case c.operation != "PutEvents":
		return failure(http.StatusBadRequest, "UnknownOperationException", "")
	}
	if b.calls++; b.fail != nil && b.fail(b.calls) {
		return failure(http.StatusInternalServerError, "InternalException", "failed by a test")
	}
	if len(in.Entries) < 1 || len(in.Entries) > 10 {
		return failure(http.StatusBadRequest, "ValidationException", "")
	}
	results, failed := make([]map[string]string, len(in.Entries)), 0
	for i, e := range in.Entries {
		code := ""
		if b.refuse != nil {
			code = b.refuse(e)
		}
		switch {
		case code != "":
			failed++
			results[i] = map[string]string{"ErrorCode": code, "ErrorMessage": "refused by a test"}
			continue
		case e.EventBusName == BusName:
			b.taken = append(b.taken, e)
		}
		results[i] = map[string]string{"EventId": strconv.Itoa(len(b.taken))}
	}
	return http.StatusOK, map[string]any{"FailedEntryCount": failed, "Entries": results}
}

// Queues plays SQS: SendMessage to some queues.
type Queues struct {
	URL string

	mu      sync.Mutex
	sent    int
	waiting map[string][]Message // by the path of the queue
	refuse  bool
}

// Message is a message of a queue, in the form in which a mapping hands it to a function.
type Message struct {
	ID         string            `json:"messageId"`
	Body       string            `json:"body"`
	Source     string            `json:"eventSource"`
	Attributes MessageAttributes `json:"attributes"`
}

// MessageAttributes are what SQS knows of a message.
type MessageAttributes struct {
	TraceHeader string `json:"AWSTraceHeader,omitempty"` // of the call that sent it
}

// NewQueues starts a service with queues. The URL of a queue is that of the service and the queue's
// path, /<account>/<name>.
func NewQueues(t testing.TB, paths ...string) *Queues {
	q := &Queues{waiting: map[string][]Message{}}
	for _, path := range paths {
		q.waiting[path] = nil
	}
	q.URL = serveJSON(t, "AmazonSQS", q.answer)
	return q
}

// Refuse makes the service refuse every message, or accept them again.
func (q *Queues) Refuse(refuse bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuse = refuse
}

// Take takes the oldest message out of a queue, if there is one.
func (q *Queues) Take(path string) (m Message, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ok = len(q.waiting[path]) > 0; ok {
		m, q.waiting[path] = q.waiting[path][0], q.waiting[path][1:]
	}
	return m, ok
}

// Waiting returns how many messages are in a queue.
func (q *Queues) Waiting(path string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting[path])
}

func (q *Queues) answer(c call) (int, any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var in struct{ QueueUrl, MessageBody string } //nolint:revive,staticcheck // as SQS spells it
	if err := c.decode(&in); err != nil || c.operation != "SendMessage" {
		return failure(http.StatusBadRequest, "com.amazonaws.sqs#UnsupportedOperation", "")
	}
	path := strings.TrimPrefix(in.QueueUrl, q.URL)
	if _, exists := q.waiting[path]; !exists || q.refuse {
		return failure(http.StatusBadRequest, "com.amazonaws.sqs#QueueDoesNotExist", "refused by a test")
	}
	q.sent++
	m := Message{fmt.Sprint("message-", q.sent), in.MessageBody, "aws:sqs", MessageAttributes{c.trace}}
	q.waiting[path] = append(q.waiting[path], m)
	sum := md5.Sum([]byte(in.MessageBody)) //nolint:gosec // as above
	return http.StatusOK, map[string]string{"MessageId": m.ID, "MD5OfMessageBody": hex.EncodeToString(sum[:])}
}

// KeyID is the id of the one multi-Region key that [KMS] has, the same in every region.
const KeyID = "mrk-0123456789abcdef0123456789abcdef"

// KMS plays KMS: Encrypt and Decrypt with one key. It really encrypts, and binds the ciphertext to
// the encryption context.
type KMS struct {
	URL string

	t    testing.TB
	root cipher.AEAD

	mu     sync.Mutex
	calls  map[string]int
	refuse func(operation string, call int) (status int, code string)
}

// NewKMS starts a KMS.
func NewKMS(t testing.TB) *KMS {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	k := &KMS{t: t, calls: map[string]int{}}
	if k.root, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		t.Fatal(err)
	}
	k.URL = serveJSON(t, "TrentService", k.answer)
	return k
}

// Set makes KMS fail, or, with nil, work again: refuse returns the status and error code of a call,
// "" to answer it. Calls are counted from 1 from now on, by operation.
func (k *KMS) Set(refuse func(operation string, call int) (status int, code string)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = refuse
	clear(k.calls)
}

// Calls returns how often an operation was called since [KMS.Set].
func (k *KMS) Calls(operation string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls[operation]
}

func (k *KMS) answer(c call) (int, any) {
	var in struct {
		KeyId                     string //nolint:revive,staticcheck // as KMS spells it
		Plaintext, CiphertextBlob []byte
		EncryptionContext         map[string]string
	}
	if err := c.decode(&in); err != nil {
		return failure(http.StatusBadRequest, "SerializationException", "")
	}
	k.mu.Lock()
	k.calls[c.operation]++
	call, refuse := k.calls[c.operation], k.refuse
	k.mu.Unlock()
	if refuse != nil {
		if status, code := refuse(c.operation, call); code != "" {
			return failure(status, code, "refused by a test, of secret things")
		}
	}
	if in.KeyId != KeyID && !strings.HasSuffix(in.KeyId, ":key/"+KeyID) {
		return failure(http.StatusBadRequest, "NotFoundException", "")
	}
	bound, err := json.Marshal(in.EncryptionContext)
	if err != nil || len(in.EncryptionContext) != 1 || in.EncryptionContext["parley:user"] == "" {
		k.t.Errorf("the encryption context is %v", in.EncryptionContext)
	}
	out := map[string]any{"KeyId": in.KeyId, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
	switch c.operation {
	case "Encrypt":
		out["CiphertextBlob"] = k.root.Seal(nil, nil, in.Plaintext, bound)
	case "Decrypt":
		if out["Plaintext"], err = k.root.Open(nil, nil, in.CiphertextBlob, bound); err != nil {
			return failure(http.StatusBadRequest, "InvalidCiphertextException", "")
		}
	default:
		return failure(http.StatusBadRequest, "UnknownOperationException", "")
	}
	return http.StatusOK, out
}

// Audience is the aud claim of the tokens of an [Issuer].
const Audience = "parley"

// Issuer plays the identity provider: it publishes its keys at URL, and signs tokens.
type Issuer struct {
	URL string

	t   testing.TB
	key *rsa.PrivateKey
}

// NewIssuer starts an issuer with a key of its own.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	keys, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one",
		"n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes()),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(keys) // the caller may be gone
	}))
	return &Issuer{url, t, key}
}

// Token returns a token of a user with scopes, valid for an hour.
func (i *Issuer) Token(user string, scopes ...string) string {
	i.t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": i.URL, "aud": Audience, "sub": user, "exp": time.Now().Add(time.Hour).Unix(), "scope": strings.Join(scopes, " "),
	})
	token.Header["kid"] = "one"
	signed, err := token.SignedString(i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return signed
}
