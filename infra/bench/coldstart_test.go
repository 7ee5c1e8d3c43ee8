package main

import (
	"slices"
	"testing"

	"parley/infra/lambda/config"
)

func TestLambdaFunctions(t *testing.T) {
	if !slices.Equal(lambdaFunctions, config.Functions) {
		t.Errorf("the functions are %v, those of the binary %v", lambdaFunctions, config.Functions)
	}
}
