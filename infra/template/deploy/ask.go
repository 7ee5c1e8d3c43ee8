package main

// The questions that look asks. None of them changes anything.

func askIdentity(region string) []string {
	return []string{"sts", "get-caller-identity", "--region", region, "--output", "json"}
}

func askStack(stack, region string) []string {
	return []string{"cloudformation", "describe-stacks", "--region", region, "--stack-name", stack, "--query", "Stacks[0].StackStatus", "--output", "text"}
}

// askKeyID asks for the id of the key that wraps users' keys: an output of the log's stack.
func askKeyID(stack, region string) []string {
	return []string{"cloudformation", "describe-stacks", "--region", region, "--stack-name", stack, "--query", "Stacks[0].Outputs[?OutputKey=='KeyId'].OutputValue", "--output", "text"}
}

// askKeyFrom asks whether a region's stack has made the replica of the key that is there: its parameter.
func askKeyFrom(stack, region string) []string {
	return []string{"cloudformation", "describe-stacks", "--region", region, "--stack-name", stack, "--query", "Stacks[0].Parameters[?ParameterKey=='KeyFrom'].ParameterValue", "--output", "text"}
}

func askKey(id, region string) []string {
	return []string{"kms", "describe-key", "--region", region, "--key-id", id, "--query", "KeyMetadata.KeyState", "--output", "text"}
}

func askTable(table, region string) []string {
	return []string{"dynamodb", "describe-table", "--region", region, "--table-name", table, "--query", "Table", "--output", "json"}
}

func askZone(zone, region string) []string {
	return []string{"route53", "get-hosted-zone", "--region", region, "--id", zone, "--query", "HostedZone.Name", "--output", "text"}
}

func askTopic(arn, region string) []string {
	return []string{"sns", "get-topic-attributes", "--region", region, "--topic-arn", arn}
}

// askLogRole asks for the role that API Gateway logs with, which an account has once for each region
// or not at all. HTTP APIs log without it, WebSocket APIs do not.
func askLogRole(region string) []string {
	return []string{"apigateway", "get-account", "--region", region, "--query", "cloudwatchRoleArn", "--output", "text"}
}

func askBucket(account, region string) []string {
	return []string{"s3api", "head-bucket", "--region", region, "--bucket", codeBucket(account, region), "--expected-bucket-owner", account}
}

func askCode(account, region, key string) []string {
	return []string{"s3api", "head-object", "--region", region, "--bucket", codeBucket(account, region), "--key", key}
}

// The words by which AWS says that something is not there.
const (
	noStack  = "does not exist"
	noTable  = "ResourceNotFoundException"
	noZone   = "NoSuchHostedZone"
	noTopic  = "NotFound"
	noObject = "(404)"
	noSecret = "ResourceNotFoundException"
	noKey    = "NotFoundException"
)
