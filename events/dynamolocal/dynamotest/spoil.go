package dynamotest

import (
	"bytes"
	"encoding/json"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"parley/events/dynamolocal"
)

// Fault is what goes wrong with a call to DynamoDB.
type Fault int

// The faults that DynamoDB Local never shows by itself.
const (
	None     Fault = iota
	Throttle       // refused for load: nothing happens
	Fail           // answered with an internal error: nothing happens
	Drop           // the connection breaks before it happens
	Lose           // it happens, and then the connection breaks
	Part           // of a BatchGetItem only the first half of the keys, rounded down, is processed
	Expire         // of a GetRecords: the iterator has expired, as after 15 minutes
	Trim           // of a GetRecords: the next records were trimmed, as after 24 hours
	Purge          // of a GetRecords: the shard is gone, some time after that
)

// Call is a call to DynamoDB.
type Call struct {
	Operation string // "PutItem"
	Body      []byte // of the request, JSON
}

// Spoil returns an endpoint that stands before e and asks before each call what is to go wrong
// with it. Calls come side by side.
func Spoil(t testing.TB, e dynamolocal.Endpoint, fault func(Call) Fault) dynamolocal.Endpoint {
	client := dynamolocal.NewClient()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the caller has gone
		}
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		what := fault(Call{operation, body})
		switch what {
		case Throttle:
			refuse(w, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")
			return
		case Fail:
			refuse(w, http.StatusInternalServerError, "com.amazon.coral.service#InternalServerError")
			return
		case Expire:
			refuse(w, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ExpiredIteratorException")
			return
		case Trim:
			refuse(w, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#TrimmedDataAccessException")
			return
		case Purge:
			refuse(w, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException")
			return
		case Drop:
			panic(http.ErrAbortHandler)
		}
		var rest map[string]json.RawMessage
		if what == Part && operation == "BatchGetItem" {
			body, rest = halve(t, body)
		}
		status, text, err := forward(client, e.URL, r, body)
		if err != nil || what == Lose {
			panic(http.ErrAbortHandler)
		}
		if rest != nil {
			text = leave(t, text, rest)
		}
		answer(w, status, text)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		client.CloseIdleConnections()
	})
	return dynamolocal.Endpoint{URL: server.URL, Key: e.Key}
}

func forward(client *http.Client, url string, r *http.Request, body []byte) (int, []byte, error) {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, url+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for _, name := range []string{"Content-Type", "X-Amz-Target", "X-Amz-Date", "Authorization", "X-Amz-Content-Sha256"} {
		if value := r.Header.Get(name); value != "" {
			out.Header.Set(name, value)
		}
	}
	res, err := client.Do(out)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

func refuse(w http.ResponseWriter, status int, kind string) {
	answer(w, status, []byte(`{"__type":"`+kind+`","message":"spoiled by a test"}`))
}

// answer answers as DynamoDB does, with the checksum that the SDK looks for.
func answer(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(text)), 10))
	w.WriteHeader(status)
	_, _ = w.Write(text) // the caller may have gone
}

// halve takes the second half of the keys of each table out of a BatchGetItem.
func halve(t testing.TB, body []byte) (first []byte, rest map[string]json.RawMessage) {
	var request map[string]json.RawMessage
	var tables map[string]map[string]json.RawMessage
	must(t, json.Unmarshal(body, &request))
	must(t, json.Unmarshal(request["RequestItems"], &tables))
	rest = map[string]json.RawMessage{}
	for name, table := range tables {
		var keys []json.RawMessage
		must(t, json.Unmarshal(table["Keys"], &keys))
		table["Keys"] = marshal(t, keys[len(keys)/2:])
		rest[name] = marshal(t, table)
		if table["Keys"] = marshal(t, keys[:len(keys)/2]); len(keys) < 2 {
			return body, nil // none may be left out of one
		}
	}
	request["RequestItems"] = marshal(t, tables)
	return marshal(t, request), rest
}

// leave adds what was not processed to the answer of a BatchGetItem.
func leave(t testing.TB, answer []byte, rest map[string]json.RawMessage) []byte {
	var fields map[string]json.RawMessage
	must(t, json.Unmarshal(answer, &fields))
	fields["UnprocessedKeys"] = marshal(t, rest)
	return marshal(t, fields)
}

func marshal(t testing.TB, v any) []byte {
	text, err := json.Marshal(v)
	must(t, err)
	return text
}

func must(t testing.TB, err error) {
	if err != nil {
		t.Errorf("spoil a call: %v", err)
		panic(http.ErrAbortHandler)
	}
}
