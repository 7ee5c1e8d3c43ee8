package keystest_test

import (
	"testing"

	"parley/events/keys"
	"parley/events/keys/keystest"
)

func TestModel(t *testing.T) {
	keystest.Run(t, func(*testing.T) keys.Store { return keystest.NewModel() }, nil)
}
