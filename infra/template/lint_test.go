package template_test

import (
	"os/exec"
	"testing"
)

// cfn-lint knows what every resource of AWS takes. What it does not know is in the rules.
func TestLint(t *testing.T) {
	linter, err := exec.LookPath("cfn-lint")
	if err != nil {
		t.Skip("cfn-lint is not on the PATH: pip install cfn-lint")
	}
	if said, err := exec.Command(linter, "-r", "us-east-1", "eu-west-1", "ap-southeast-2", "--", "global.yaml", "region.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
