package dynamolocal

import (
	"crypto/rand"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Endpoint is a place that speaks DynamoDB's protocol, and an account there.
type Endpoint struct {
	URL string
	// Key is the access key. In DynamoDB Local each key has tables of its own in each region. It
	// may hold letters and digits only.
	Key string
	// Client makes the calls; nil is one for each Config, with connections that nobody closes.
	Client *http.Client
}

// NewKey returns an access key that nobody else uses: a place of one's own in DynamoDB Local.
func NewKey() string { return rand.Text() }

// NewClient returns a client that keeps as many connections as there are calls at once: the
// usual 2 for each host make a new connection for almost every call under load.
func NewClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	return &http.Client{Transport: transport}
}

// Config is what clients of the endpoint in a region are made of.
func (e Endpoint) Config(region string) aws.Config {
	client := e.Client
	if client == nil {
		client = NewClient()
	}
	return aws.Config{
		Region:       region,
		BaseEndpoint: aws.String(e.URL),
		Credentials:  credentials.NewStaticCredentialsProvider(e.Key, "local", ""),
		HTTPClient:   client,
	}
}
