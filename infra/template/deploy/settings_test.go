package main

import (
	"strings"
	"testing"
)

// good is a command line with all that is needed.
func good(more ...string) []string {
	return append([]string{
		"-stage", "prod", "-regions", "us-east-1,eu-west-1", "-issuer", "https://issuer.example.com", "-audience", "parley",
	}, more...)
}

// parsed are the settings of a command line that is right.
func parsed(t *testing.T, args ...string) settings {
	t.Helper()
	s, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParse(t *testing.T) {
	s := parsed(t, good("-jwks", "https://keys.example.com/all", "-origins", "https://a.example.com,http://localhost:3000",
		"-domain", "api.example.com", "-zone", "Z0123456789ABCDEFGHIJ", "-batch-window", "2s", "-example=false")...)
	if s.jwks != "https://keys.example.com/all" || len(s.origins) != 2 || s.batchWindow.Seconds() != 2 || s.example || s.strong() || s.liveDomain != "live.api.example.com" {
		t.Errorf("%+v", s)
	}
	if s := parsed(t, good("-issuer", "https://issuer.example.com/")...); s.jwks != "https://issuer.example.com/.well-known/jwks.json" {
		t.Errorf("the keys are looked for at %s", s.jwks)
	}
	for _, regions := range []string{"us-gov-west-1,us-gov-east-1", "ap-southeast-4", "il-central-1,mx-central-1", "us-east-1,us-east-2,us-west-2"} {
		parsed(t, good("-regions", regions)...)
	}
	if s := parsed(t, good("-regions", "us-east-1,us-east-2,us-west-2", "-consistency", "strong")...); !s.strong() {
		t.Error("not strong")
	}
}

// What is wrong is refused with the flag's name and what to do, all of it at once.
func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-stage", ""}, "-stage must be 1 to 12"},
		{[]string{"-stage", "Prod"}, "-stage must be 1 to 12 characters of a-z 0-9"},
		{[]string{"-stage", "1prod"}, "the first a letter"},
		{[]string{"-stage", "production-eu"}, "-stage must be"},
		{[]string{"-regions", ""}, "-regions is missing"},
		{[]string{"-regions", "us-east-1, eu-west-1"}, `" eu-west-1" is not an AWS region`},
		{[]string{"-regions", "us-east-1,"}, `"" is not an AWS region`},
		{[]string{"-regions", "US-EAST-1"}, "is not an AWS region"},
		{[]string{"-regions", "useast1"}, "is not an AWS region"},
		{[]string{"-regions", "us-east-1a"}, "is not an AWS region"},
		{[]string{"-regions", "us-east-1,us-east-1"}, "-regions names us-east-1 twice"},
		{[]string{"-regions", "us-east-1,cn-north-1"}, "different partitions"},
		{[]string{"-regions", strings.Repeat("us-east-1,", 20) + "us-west-2"}, "-regions may name at most 20"},
		{[]string{"-consistency", "strong"}, "exactly three regions, and -regions names 2"},
		{[]string{"-consistency", "STRONG"}, `-consistency must be eventual or strong, not "STRONG"`},
		{[]string{"-consistency", "strong", "-regions", "us-east-1,eu-west-1,ap-northeast-1"}, "one of the sets that DynamoDB allows: us-east-1, us-east-2, us-west-2; or eu-west-1"},
		{[]string{"-consistency", "strong", "-regions", "us-east-1,us-east-2,us-west-1"}, "one of the sets that DynamoDB allows"},
		{[]string{"-consistency", "strong", "-regions", "eu-west-1,eu-north-1,eu-central-1"}, "one of the sets that DynamoDB allows"},
		{[]string{"-consistency", "strong", "-regions", "ap-northeast-1,ap-southeast-2,ap-northeast-3"}, "one of the sets that DynamoDB allows"},
		{[]string{"-consistency", "strong", "-regions", "us-east-1,us-east-2,us-west-2", "-remove", "us-west-1"}, "-remove cannot remove a region from"},
		{[]string{"-remove", "nowhere"}, `-remove: "nowhere" is not an AWS region`},
		{[]string{"-remove", "eu-west-1"}, "-remove and -regions both name eu-west-1"},
		{[]string{"-issuer", ""}, "-issuer must be a URL"},
		{[]string{"-issuer", "http://issuer.example.com"}, "-issuer must be a URL with https"},
		{[]string{"-issuer", "issuer.example.com"}, "-issuer must be a URL"},
		{[]string{"-issuer", "https://"}, "-issuer must be a URL"},
		{[]string{"-issuer", "https://a.example.com/?x=1"}, "without query"},
		{[]string{"-issuer", "https://user:pw@a.example.com"}, "-issuer must be a URL"},
		{[]string{"-jwks", "ftp://a.example.com/keys"}, "-jwks must be a URL"},
		{[]string{"-audience", ""}, "-audience must be the aud claim"},
		{[]string{"-audience", "a,b"}, "-audience must be"},
		{[]string{"-origins", "https://a.example.com/chat"}, "is not an origin"},
		{[]string{"-origins", "a.example.com"}, "is not an origin"},
		{[]string{"-domain", "api.example.com"}, "-zone must be the id"},
		{[]string{"-zone", "Z0123456789"}, "-zone is given without -domain"},
		{[]string{"-live-domain", "live.example.com"}, "-live-domain is given without -domain"},
		{[]string{"-domain", "api.example.com", "-zone", "Z0123456789", "-live-domain", "api.example.com"}, "-live-domain must be another name"},
		{[]string{"-domain", "api.example.com", "-zone", "Z0123456789", "-live-domain", "wss://live.example.com"}, "-live-domain must be a host name"},
		{[]string{"-domain", "https://api.example.com", "-zone", "Z0123456789"}, "-domain must be a host name"},
		{[]string{"-domain", "localhost", "-zone", "Z0123456789"}, "-domain must be a host name"},
		{[]string{"-domain", "api.example.com", "-zone", "/hostedzone/Z0123456789"}, "without /hostedzone/"},
		{[]string{"-check-every", "15"}, "-check-every must be 10 or 30"},
		{[]string{"-rate", "-1"}, "-rate must be from 0"},
		{[]string{"-api-rate", "0"}, "-api-rate must be from 1"},
		{[]string{"-api-burst", "0"}, "-api-burst must be from 1"},
		{[]string{"-warm-writes", "100"}, "-warm-writes must be from 4000"},
		{[]string{"-beats", "0"}, "-beats must be from 1 to 100"},
		{[]string{"-beats", "101"}, "-beats must be from 1 to 100"},
		{[]string{"-archive-days", "0"}, "-archive-days must be from 1"},
		{[]string{"-log-days", "31"}, "-log-days must be a value"},
		{[]string{"-batch-window", "1500ms"}, "-batch-window must be whole seconds"},
		{[]string{"-batch-window", "6m"}, "-batch-window must be"},
		{[]string{"-batch-window", "soon"}, "it must be a duration such as 2s"},
		{[]string{"-leeway", "11m"}, "-leeway must be from 0s to 10m"},
		{[]string{"-leeway", "1"}, "it must be a duration such as 60s"},
		{[]string{"-publish", "none"}, "-publish must be all or own"},
		{[]string{"-log", "trace"}, "-log must be debug or info or warn or error"},
		{[]string{"-alarm-topic", "arn:aws:sns:us-east-1:123456789012:x"}, "-alarm-topic must be the name, not the ARN"},
		{[]string{"-rate", "many"}, "-rate"},
		{[]string{"-nonsense"}, "-nonsense"},
		{[]string{"now"}, `unexpected argument "now"`},
	} {
		if _, err := parse(good(tt.args...)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.args, err, tt.want)
		}
	}
	_, err := parse([]string{"-stage", "X", "-regions", "x", "-consistency", "weak", "-check-every", "1"})
	for _, flag := range []string{"-stage", "-regions", "-consistency", "-issuer", "-audience", "-check-every"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("of %s nothing is said: %v", flag, err)
		}
	}
}
