package whispsim_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// TestEveryOperationIsServed walks the vendor's own description: each path and
// method must be served under its operationId, and demand what it says.
func TestEveryOperationIsServed(t *testing.T) {
	text, err := os.ReadFile("testdata/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]struct {
			OperationID string
			Security    []map[string][]string
			Parameters  []struct {
				Ref string `json:"$ref"`
			}
			Responses map[string]any
		}
	}
	if err := json.Unmarshal(text, &api); err != nil {
		t.Fatal(err)
	}
	b := start(t, whispsim.Config{})
	served := 0
	for path, methods := range api.Paths {
		for method, operation := range methods {
			served++
			t.Run(operation.OperationID, func(t *testing.T) {
				path := strings.ReplaceAll(path, "{chatId}", "550e8400-e29b-41d4-a716-446655440000")
				r := b.call(strings.ToUpper(method), path, nil, "")
				if b.sim.Calls(operation.OperationID) != 1 {
					t.Fatalf("%s %s was not served as %s", method, path, operation.OperationID)
				}
				want := 401
				if operation.OperationID == "refreshToken" { // its body is looked at first
					want = 400
				}
				r.want(t, want)
				needsKey := len(operation.Parameters) > 0 && strings.HasSuffix(operation.Parameters[0].Ref, "/ApiKeyHeader")
				if problem := strings.Contains(r.body, `"status":"401"`); want == 401 && problem == needsKey {
					t.Errorf("body = %q, API key needed: %v", r.body, needsKey)
				}
				b.call("PATCH", path, nil, "").want(t, 405)
			})
		}
	}
	if served != 17 {
		t.Errorf("openapi.json describes %d operations, this test was written for 17", served)
	}
}
