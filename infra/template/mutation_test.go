package template_test

import (
	"strings"
	"testing"
)

// mutation is a slip in a template, and the rule that must notice.
type mutation struct {
	rule  string
	path  string // in Resources of region.yaml; after "global:" in the whole of global.yaml, after "/" in that of region.yaml
	value any    // nil: taken away
	want  string // a part of the complaint
}

// mutations are the slips. Each rule has some, so it is seen to be able to fail.
var mutations = []mutation{
	{"log", "global:Resources/Events/Properties/StreamSpecification/StreamViewType", "KEYS_ONLY", "StreamViewType"},
	{"log", "global:Resources/Events/Properties/StreamSpecification", nil, "StreamViewType"},
	{"log", "global:Resources/Events/Properties/AttributeDefinitions/1/AttributeName", "sort", "AttributeDefinitions"},
	{"log", "global:Resources/Events/Properties/KeySchema/0/AttributeName", "room", "KeySchema"},
	{"log", "global:Resources/Events/DeletionPolicy", nil, "DeletionPolicy"},
	{"log", "global:Resources/Events/UpdateReplacePolicy", "Delete", "UpdateReplacePolicy"},
	{"log", "global:Resources/Events/Properties/GlobalSecondaryIndexes", []any{tree{}}, "GlobalSecondaryIndexes"},
	{"log", "global:Resources/Events/Properties/TimeToLiveSpecification", tree{"Enabled": true}, "TimeToLive"},
	{"log", "global:Resources/Events/Properties/BillingMode", "PROVISIONED", "BillingMode"},
	{"log", "global:Resources/Events/Properties/MultiRegionConsistency", "STRONG", "MultiRegionConsistency"},
	{"log", "global:Parameters/Consistency/Default", "STRONG", "default of Consistency"},
	{"log", "global:Resources/CursorKey", nil, "one secret"},
	{"replicas", "global:Resources/Events/Properties/Replicas/0/DeletionProtectionEnabled", false, "DeletionProtection"},
	{"replicas", "global:Resources/Events/Properties/Replicas/0/PointInTimeRecoverySpecification", nil, "PointInTimeRecovery"},
	{"replicas", "global:Resources/Events/Properties/Replicas", nil, "no replica"},
	{"secret", "global:Resources/CursorKey", nil, "not one secret"},
	{"secret", "Key", tree{"Type": "AWS::SecretsManager::Secret"}, "not one secret"},
	{"secret", "global:Resources/CursorKey/DeletionPolicy", nil, "CursorKey: DeletionPolicy"},
	{"secret", "global:Resources/CursorKey/UpdateReplacePolicy", "Delete", "CursorKey: UpdateReplacePolicy"},
	{"secret", "global:Resources/CursorKey/Properties/Name", "key", "CursorKey: Name"},
	{"secret", "global:Resources/CursorKey/Properties/SecretString", "0123456789abcdef0123456789abcdef", "is in the template"},
	{"secret", "global:Resources/CursorKey/Properties/GenerateSecretString/PasswordLength", 8, "CursorKey: PasswordLength"},
	{"secret", "global:Resources/CursorKey/Properties/GenerateSecretString/ExcludePunctuation", nil, "CursorKey: ExcludePunctuation"},
	{"secret", "global:Outputs/StreamArn/Value", tree{"Ref": "CursorKey"}, "shows the secret"},
	{"secret", "/Parameters/CursorKey/NoEcho", nil, "NoEcho"},
	{"secret", "/Parameters/CursorKey/MinLength", 8, "MinLength"},
	{"secret", "/Parameters/CursorKey/Default", "0123456789abcdef0123456789abcdef", "default"},
	{"secret", "/Outputs/BusArn/Value", tree{"Ref": "CursorKey"}, "Outputs/BusArn/Value shows the secret"},
	{"secret", "Query/Properties/Description", tree{"Fn::Sub": "${CursorKey}"}, "Description shows the secret"},
	{"views", "Views/DeletionPolicy", nil, "DeletionPolicy"},
	{"views", "Views/Properties/KeySchema/1/AttributeName", "id", "KeySchema"},
	{"views", "Views/Properties/PointInTimeRecoverySpecification", nil, "PointInTimeRecovery"},
	{"connections", "Connections/Properties/TimeToLiveSpecification", nil, "TimeToLive"},
	{"connections", "Connections/Properties/TimeToLiveSpecification/AttributeName", "until", "TimeToLive"},
	{"connections", "Connections/Properties/PointInTimeRecoverySpecification", tree{"PointInTimeRecoveryEnabled": true}, "PointInTimeRecovery"},
	{"connections", "Connections/Properties/StreamSpecification", tree{"StreamViewType": "NEW_IMAGE"}, "StreamSpecification"},
	{"connections", "Connections/Properties/BillingMode", "PROVISIONED", "BillingMode"},
	{"connections", "Connections/DeletionPolicy", "Retain", "DeletionPolicy"},
	{"functions", "Beat", nil, "beat has no resource"},
	{"functions", "Query/Properties/Role", tree{"Fn::GetAtt": "CommandRole.Arn"}, "query has no role of its own"},
	{"functions", "Query/Properties/LoggingConfig", nil, "no log group of its own"},
	{"functions", "Stream/Properties/Handler", "streams", "stream has no resource"},
	{"functions", "Stream/Properties/Architectures", []any{"x86_64"}, "Architectures"},
	{"functions", "Stream/Properties/Runtime", "go1.x", "Runtime"},
	{"functions", "Stream/Properties/ReservedConcurrentExecutions", 1, "reserves concurrency"},
	{"functions", "Stream/Properties/TracingConfig/Mode", "Active", "traced"},
	{"functions", "Stream/Properties/Timeout", nil, "no bounds"},
	{"variables", "Stream/Properties/Environment/Variables/PARLEY_BUS", nil, "stream is not given PARLEY_BUS"},
	{"variables", "Query/Properties/Environment/Variables/PARLEY_BUS", "x", "query does not read PARLEY_BUS"},
	{"variables", "Query/Properties/Environment/Variables/PARLEY_CURSOR_KEY", nil, "query is not given PARLEY_CURSOR_KEY"},
	{"variables", "Live/Properties/Environment/Variables/PARLEY_SOCKETS", nil, "live is not given PARLEY_SOCKETS"},
	{"variables", "Stream/Properties/Environment/Variables/PARLEY_SOCKETS", nil, "stream is not given PARLEY_SOCKETS"},
	{"variables", "Stream/Properties/Environment/Variables/PARLEY_CURSOR_KEY", nil, "stream is not given PARLEY_CURSOR_KEY"},
	{"variables", "Worker/Properties/Environment/Variables/PARLEY_BUS", tree{"Ref": "Bus"}, "worker does not read PARLEY_BUS"},
	{"variables", "Operate/Properties/Environment/Variables/PARLEY_STREAM_FUNCTION", nil, "operate is not given PARLEY_STREAM_FUNCTION"},
	{"variables", "Beat/Properties/Environment", nil, "beat is not given PARLEY_EVENTS_TABLE"},
	{"rights", "QueryRole/Properties/Policies/0/PolicyDocument/Statement/1/Action", []any{"dynamodb:GetItem", "dynamodb:Query"}, "query may"},
	{"rights", "CommandRole/Properties/Policies/0/PolicyDocument/Statement/1/Action", []any{"dynamodb:PutItem", "dynamodb:UpdateItem"}, "UpdateItem on events"},
	{"rights", "QueryRole/Properties/Policies/0/PolicyDocument/Statement/1/Action", []any{"dynamodb:*"}, "dynamodb:* on events"},
	{"rights", "StreamRole/Properties/Policies/0/PolicyDocument/Statement/3/Action", []any{"dynamodb:DeleteItem"}, "DeleteItem on events"},
	{"rights", "BeatRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition", nil, "beat may"},
	{"rights", "CommandRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition", nil, "command may"},
	{"rights", "StreamRole/Properties/Policies/0/PolicyDocument/Statement/5/Resource", "*", "events:PutEvents on *"},
	{"rights", "LiveRole/Properties/Policies/0/PolicyDocument/Statement/5/Resource", "*", "execute-api:ManageConnections on *"},
	{"rights", "LiveRole/Properties/Policies/0/PolicyDocument/Statement/4/Action", []any{"dynamodb:*"}, "dynamodb:* on Connections"},
	{"rights", "LiveRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition", nil, "live may"},
	{"rights", "StreamRole/Properties/Policies/0/PolicyDocument/Statement/8/Resource", tree{"Ref": "Views"}, "stream may"},
	{"rights", "ReplayerRole/Properties/Policies/0/PolicyDocument/Statement/4/Condition", nil, "ReplayerRole: events:PutEvents on Bus"},
	{"rights", "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/3/Action", []any{"events:PutEvents"}, "WorkerRole: events:PutEvents"},
	{"rights", "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition", nil, "worker may"},
	{"rights", "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/2/Action", []any{"dynamodb:DeleteItem"}, "DeleteItem on events"},
	{"rights", "OperateRole/Properties/Policies/0/PolicyDocument/Statement/4/Condition", nil, "operate may"},
	{"rights", "OperateRole/Properties/Policies/0/PolicyDocument/Statement/5/Condition", nil, "DeleteItem on Views"},
	{"rights", "OperateRole/Properties/Policies/0/PolicyDocument/Statement/7/Resource", "*", "lambda:InvokeFunction on *"},
	{"rights", "HealthRole/Properties/ManagedPolicyArns", []any{"arn:aws:iam::aws:policy/AdministratorAccess"}, "ManagedPolicyArns"},
	{"rights", "More", tree{"Type": "AWS::IAM::Policy"}, "policies beside"},
	{"routes", "DeleteRoute", nil, "DELETE /v1/"},
	{"routes", "QueryRoute/Properties/Target", tree{"Fn::Sub": "integrations/${CommandIntegration}"}, "want query"},
	{"routes", "OperatePostRoute", nil, `POST /v1/ops/jobs leads to "command", want operate`},
	{"routes", "OperateGetRoute/Properties/RouteKey", "GET /v1/opera/{proxy+}", `GET /v1/ops/status leads to "query"`},
	{"routes", "HealthRoute/Properties/RouteKey", "GET /healthz", "GET /health leads"},
	{"routes", "QueryPermission", nil, `leads to "", want query`},
	{"routes", "CommandIntegration/Properties/PayloadFormatVersion", "1.0", `leads to "", want command`},
	{"routes", "ApiStage/Properties/DefaultRouteSettings", nil, "ThrottlingRateLimit"},
	{"routes", "ApiStage/Properties/RouteSettings", nil, "open to all"},
	{"routes", "ApiStage/Properties/AccessLogSettings", nil, "access log"},
	{"routes", "FrameRoute/Properties/ApiId", tree{"Ref": "Other"}, "FrameRoute belongs to no API"},
	{"sockets", "ConnectRoute", nil, "no route $connect"},
	{"sockets", "FrameRoute/Properties/RouteKey", "send", "no route $default"},
	{"sockets", "DisconnectRoute/Properties/Target", tree{"Fn::Sub": "integrations/${CommandIntegration}"}, "DisconnectRoute leads to"},
	{"sockets", "LivePermission", nil, "leads to"},
	{"sockets", "LivePermission/Properties/SourceArn", tree{"Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*"}, "leads to"},
	{"sockets", "LiveIntegration/Properties/IntegrationUri", tree{"Fn::GetAtt": "Live.Arn"}, "leads to"},
	{"sockets", "LiveIntegration/Properties/TimeoutInMillis", 30000, "LiveIntegration waits"},
	{"sockets", "Live/Properties/Timeout", 29, "LiveIntegration waits"},
	{"sockets", "LiveApi/Properties/RouteSelectionExpression", "$request.body.type", "RouteSelectionExpression"},
	{"sockets", "LiveApi/Properties/ProtocolType", "HTTP", "ProtocolType"},
	{"sockets", "LiveStage/Properties/StageName", "v1", "where live posts to"},
	{"sockets", "LiveStage/Properties/DefaultRouteSettings", nil, "ThrottlingRateLimit"},
	{"sockets", "LiveStage/Properties/AutoDeploy", nil, "AutoDeploy"},
	{"sockets", "LiveStage/DependsOn", []any{"ConnectRoute", "FrameRoute"}, "without $disconnect"},
	{"sockets", "LiveStage/Properties/AccessLogSettings/Fn::If/0", "HasDomain", "when there is an access log"},
	{"sockets", "LiveStage/Properties/AccessLogSettings/Fn::If/1/Format", `{"conn":"$context.connectionId"}`, "connectionId"},
	{"sockets", "/Parameters/LiveLog/Default", "true", "LiveLog by itself"},
	{"sockets", "Stream/Properties/Environment/Variables/PARLEY_SOCKETS", tree{"Fn::Sub": "https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}/live"}, "where stream posts to"},
	{"timeouts", "Query/Properties/Timeout", 27, "query has 27 s"},
	{"timeouts", "Query/Properties/Timeout", 30, "QueryIntegration waits"},
	{"timeouts", "QueryIntegration/Properties/TimeoutInMillis", 29000, "QueryIntegration waits"},
	{"timeouts", "QueryIntegration/Properties/TimeoutInMillis", 31000, "QueryIntegration waits"},
	{"timeouts", "Operate/Properties/Timeout", 30, "OperateIntegration waits"},
	{"timeouts", "CommandIntegration/Properties/TimeoutInMillis", nil, "CommandIntegration waits"},
	{"authorizer", "PutRoute/Properties/AuthorizationType", "NONE", "AuthorizationType"},
	{"authorizer", "OperateDeleteRoute/Properties/AuthorizationType", "NONE", "AuthorizationType"},
	{"authorizer", "PutRoute/Properties/AuthorizerId", nil, "AuthorizerId"},
	{"authorizer", "Authorizer/Properties/JwtConfiguration/Issuer", nil, "Issuer"},
	{"authorizer", "Authorizer/Properties/JwtConfiguration/Audience", []any{}, "Audience"},
	{"trigger", "Mapping/Properties/StartingPosition", "LATEST", "StartingPosition"},
	{"trigger", "Mapping/Properties/BisectBatchOnFunctionError", nil, "Bisect"},
	{"trigger", "Mapping/Properties/FunctionResponseTypes", nil, "FunctionResponseTypes"},
	{"trigger", "Mapping/Properties/MaximumRetryAttempts", -1, "MaximumRetryAttempts"},
	{"trigger", "Mapping/Properties/MaximumRecordAgeInSeconds", nil, "MaximumRecordAge"},
	{"trigger", "Mapping/Properties/DestinationConfig/OnFailure/Destination", tree{"Fn::GetAtt": "ExampleDead.Arn"}, "AWS::SQS::Queue"},
	{"trigger", "Mapping/Properties/DestinationConfig", nil, "failure destination"},
	{"trigger", "Mapping2", tree{"Type": "AWS::Lambda::EventSourceMapping", "Properties": tree{}}, "the number of mappings"},
	{"failures", "Failures/Properties/BucketEncryption", nil, "not encrypted"},
	{"failures", "Failures/Properties/PublicAccessBlockConfiguration/BlockPublicPolicy", false, "BlockPublicPolicy"},
	{"failures", "Failures/Properties/LifecycleConfiguration", nil, "forgets nothing"},
	{"alarms", "ParkedAlarm/Properties/EvaluationPeriods", nil, "no EvaluationPeriods"},
	{"alarms", "ParkedAlarm/Properties/TreatMissingData", nil, "no TreatMissingData"},
	{"alarms", "ParkedAlarm/Properties/AlarmActions", nil, "AlarmActions"},
	{"alarms", "ParkedAlarm/Properties/MetricName", "Forgotten", "writes no Forgotten"},
	{"alarms", "ParkedAlarm/Properties/Dimensions/1/Value", "query", "writes no Parked"},
	{"alarms", "ParkedAlarm/Properties/Dimensions", nil, "dimensions"},
	{"alarms", "IteratorAgeAlarm", nil, "no alarm for AWS/Lambda IteratorAge"},
	{"alarms", "StreamErrorsAlarm", nil, "no alarm for Parley Unfinished"},
	{"alarms", "StreamErrorsAlarm/Properties/Metrics/2/MetricStat/Metric/Dimensions/1/Value", "live", "writes no Unfinished"},
	{"alarms", "StreamErrorsAlarm/Properties/Metrics/2/MetricStat/Metric/MetricName", "Parked", "no alarm for Parley Unfinished"},
	{"alarms", "PutEventsAlarm", nil, "no alarm for AWS/Events PutEventsApproximateFailedCount"},
	{"alarms", "UnsentAlarm", nil, "no alarm for Parley Unsent"},
	{"alarms", "UnsentAlarm/Properties/Dimensions/1/Value", "command", "writes no Unsent"},
	{"alarms", "ReplaysAgeAlarm", nil, "nobody watches Replays"},
	{"alarms", "JobsDeadAlarm", nil, "nobody watches"},
	{"alarms", "JobsAgeAlarm/Properties/Dimensions/0/Value", tree{"Fn::GetAtt": "Replays.QueueName"}, "nobody watches Jobs"},
	{"alarms", "ReplicationAlarmEuWest1", nil, "ReplicationLatency"},
	{"alarms", "Mapping/Properties/MetricsConfig", nil, "metrics"},
	{"patterns", "ExampleRule/Properties/EventPattern/source", "parley", "source is not a list"},
	{"patterns", "Archive/Properties/EventPattern/source", []any{}, "empty list"},
	{"queues", "ExampleQueuePolicy/Properties/PolicyDocument/Statement/0/Condition", nil, "the source"},
	{"queues", "ExampleQueuePolicy/Properties/PolicyDocument/Statement/0/Principal", "*", "Principal"},
	{"queues", "ExampleRule/Properties/Targets/0/DeadLetterConfig", nil, "dead letters"},
	{"queues", "ExampleMessages/Properties/RedrivePolicy", nil, "dead letters"},
	{"schedules", "BeatSchedule/Properties/ScheduleExpression", "rate(5 minutes)", "ScheduleExpression"},
	{"schedules", "BeatSchedule/Properties/State", "DISABLED", "State"},
	{"schedules", "BeatPermission", nil, "may not invoke"},
	{"schedules", "BeatSchedule", nil, "nothing invokes beat"},
	{"schedules", "WakeSchedule/Properties/Targets", []any{tree{"Id": "worker", "Arn": tree{"Fn::GetAtt": "Worker.Arn"}}}, "nothing invokes replayer"},
	{"schedules", "WakeSchedule/Properties/ScheduleExpression", "rate(1 hour)", "ScheduleExpression"},
	{"schedules", "WorkerPermission", nil, "may not invoke Worker"},
	{"jobs", "JobsMapping", nil, "the number of mappings for worker is 0"},
	{"jobs", "JobsMapping/Properties/BatchSize", 10, "BatchSize"},
	{"jobs", "JobsMapping/Properties/FunctionResponseTypes", nil, "FunctionResponseTypes"},
	{"jobs", "JobsMapping/Properties/ScalingConfig", nil, "MaximumConcurrency"},
	{"jobs", "ReplaysMapping/Properties/EventSourceArn", tree{"Fn::GetAtt": "Jobs.Arn"}, "EventSourceArn"},
	{"jobs", "ReplaysMapping/Properties/FunctionName", tree{"Ref": "Worker"}, "the number of mappings for replayer is 0"},
	{"jobs", "Jobs/Properties/VisibilityTimeout", 30, "VisibilityTimeout"},
	{"jobs", "Jobs/Properties/VisibilityTimeout", 360, "VisibilityTimeout"},
	{"jobs", "Jobs/Properties/RedrivePolicy", nil, "dead letters"},
	{"jobs", "Jobs/Properties/RedrivePolicy/maxReceiveCount", 5, "maxReceiveCount"},
	{"jobs", "ReplaysDead/Properties/MessageRetentionPeriod", 60, "MessageRetentionPeriod"},
	{"jobs", "Worker/Properties/Timeout", 10, "worker: Timeout"},
	{"jobs", "Operate/Properties/Environment/Variables/PARLEY_REPLAY_QUEUE", tree{"Ref": "Jobs"}, "PARLEY_REPLAY_QUEUE"},
	{"jobs", "Stream/Properties/Timeout", 120, "stream has 120 s for a batch"},
	{"domain", "/Parameters/HealthCheckInterval/AllowedValues", []any{10, 15, 30}, "interval"},
	{"domain", "HealthCheck/Properties/HealthCheckConfig/RequestInterval", 15, "interval"},
	{"domain", "HealthCheck/Condition", nil, "Condition"},
	{"domain", "HealthCheck/Properties/HealthCheckConfig/FullyQualifiedDomainName", tree{"Ref": "Domain"}, "its host"},
	{"domain", "HealthCheck/Properties/HealthCheckConfig/ResourcePath", "/", "its path"},
	{"domain", "Record/Properties/HealthCheckId", nil, "its health check"},
	{"domain", "LiveRecord/Properties/HealthCheckId", nil, "LiveRecord: its health check"},
	{"domain", "LiveRecord/Condition", "HasDomain", "AWS::Route53::RecordSet"},
	{"domain", "LiveMapping/Properties/ApiId", tree{"Ref": "Api"}, "LiveMapping: ApiId"},
	{"domain", "LiveRecord/Properties/AliasTarget/DNSName", tree{"Fn::GetAtt": "ApiDomain.RegionalDomainName"}, "where it leads"},
	{"domain", "LiveDomainName/Properties/DomainNameConfigurations/0/CertificateArn", tree{"Ref": "Certificate"}, "its certificate"},
	{"logs", "StreamLogs/Properties/RetentionInDays", nil, "kept for ever"},
	{"logs", "LiveApiLogs/Properties/RetentionInDays", nil, "kept for ever"},
	{"logs", "LiveStage/Properties/AccessLogSettings", nil, "log groups in use"},
	{"logs", "Stream/Properties/LoggingConfig", nil, "log groups in use"},
	{"names", "Stream/Properties/FunctionName", tree{"Fn::Sub": "parley-stream"}, "parley-stream"},
	{"names", "StreamRole/Properties/RoleName", tree{"Fn::Sub": "parley-${Stage}-stream"}, "AWS::Region"},
	{"names", "BeatAlarm/Properties/AlarmName", tree{"Fn::Sub": "parley-${Stage}-parked"}, "two are called"},
	{"parameters", "/Parameters/Forgotten", tree{"Type": "String", "Description": "x"}, "nothing uses the parameter Forgotten"},
	{"parameters", "/Parameters/Stage/Description", nil, "not described"},
	{"parameters", "global:Parameters/Forgotten", tree{"Type": "String"}, "global.yaml: nothing uses"},
	{"dashboard", "Dashboard/Properties/DashboardBody", tree{"Fn::Sub": "{"}, "no JSON"},
	{"dashboard", "Dashboard/Properties/DashboardBody", tree{"Fn::Sub": `{"widgets":[{"properties":{"metrics":[["Parley","Bells","Region","x","Function","stream"]]}}]}`}, "writes no Bells"},
}

// TestRulesCanFail makes each slip in a template that is right, and wants the rule's complaint.
func TestRulesCanFail(t *testing.T) {
	slips := map[string]int{}
	for _, m := range mutations {
		slips[m.rule]++
		b := read(t)
		if path, global := strings.CutPrefix(m.path, "global:"); global {
			set(b.global, path, m.value)
		} else if path, whole := strings.CutPrefix(m.path, "/"); whole {
			set(b.region, path, m.value)
		} else {
			set(b.region["Resources"], path, m.value)
		}
		if all := complain(m.rule, b); !strings.Contains(all, m.want) {
			t.Errorf("%s: %s = %v is not noticed, or otherwise: %q, want %q", m.rule, m.path, m.value, all, m.want)
		}
	}
	for _, r := range rules() {
		if slips[r.name] == 0 {
			t.Errorf("no slip shows that the rule %s can fail", r.name)
		}
	}
}

func complain(name string, b both) string {
	for _, r := range rules() {
		if r.name == name {
			return strings.Join(r.check(b), "\n")
		}
	}
	return "there is no such rule"
}
