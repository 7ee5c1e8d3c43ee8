package api

import "github.com/danielgtaylor/huma/v2"

// problemSchema is where huma puts the schema of [Problem].
const problemSchema = "#/components/schemas/Problem"

// Elsewhere puts an operation into the OpenAPI document that another handler serves, with what each
// status of its answers means.
func (a *API) Elsewhere(op Operation, answers map[string]string) {
	responses := map[string]*huma.Response{}
	for status, description := range answers {
		responses[status] = &huma.Response{Description: description}
		if status >= "400" {
			responses[status].Content = map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: problemSchema}}}
		}
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: op.ID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Detail,
		Tags: []string{op.Tag}, Security: []map[string][]string{{"bearer": {}}}, Responses: responses,
	})
}
