package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// TestEveryProblemIsDocumented reads the catalogue's source, so that a new
// constructor cannot be forgotten in docs/errors.md.
func TestEveryProblemIsDocumented(t *testing.T) {
	docs, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, p := range catalogue(t) {
		row := fmt.Sprintf("| `%s` | %d |", p.code, p.status)
		if !strings.Contains(string(docs), row) {
			t.Errorf("%s: docs/errors.md has no row %q", name, row)
		}
		if other, twice := seen[p.code]; twice {
			t.Errorf("%s and %s share the code %s", name, other, p.code)
		}
		seen[p.code] = name
	}
	if rows := strings.Count(string(docs), "\n| `"); rows != len(seen) {
		t.Errorf("docs/errors.md has %d rows for %d problems", rows, len(seen))
	}
}

type entry struct {
	code   string
	status int
}

var statuses = map[string]int{
	"StatusBadRequest": 400, "StatusUnauthorized": 401, "StatusForbidden": 403, "StatusNotFound": 404,
	"StatusMethodNotAllowed": 405, "StatusConflict": 409, "StatusRequestEntityTooLarge": 413,
	"StatusMisdirectedRequest": 421, "StatusUnprocessableEntity": 422, "StatusUpgradeRequired": 426,
	"StatusTooManyRequests": 429, "StatusInternalServerError": 500, "StatusBadGateway": 502,
	"StatusServiceUnavailable": 503, "StatusGatewayTimeout": 504,
}

func catalogue(t *testing.T) map[string]entry {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "catalogue.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]entry{}
	for _, decl := range file.Decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		var e entry
		ast.Inspect(function, func(n ast.Node) bool {
			field, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			switch field.Key.(*ast.Ident).Name {
			case "Code":
				e.code = strings.Trim(field.Value.(*ast.BasicLit).Value, `"`)
			case "Status":
				name := field.Value.(*ast.SelectorExpr).Sel.Name
				if e.status = statuses[name]; e.status == 0 {
					t.Errorf("%s: this test does not know %s", function.Name.Name, name)
				}
			}
			return true
		})
		all[function.Name.Name] = e
	}
	if len(all) < 20 {
		t.Fatalf("found only %d constructors", len(all))
	}
	return all
}

func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Length", "5")
	cause := errors.New("the cause, which nobody may see")
	problem.Write(w, "req-1", problem.WhispUnreachable().Because(cause).After(1500*time.Millisecond))

	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"type": "urn:whisp-bff:problem:whisp_unreachable", "status": 503.0, "code": "whisp_unreachable", "requestId": "req-1",
		"message": problem.WhispUnreachable().Message, "detail": problem.WhispUnreachable().Message,
	} {
		if body[field] != want {
			t.Errorf("%s: %v, want %v", field, body[field], want)
		}
	}
	for header, want := range map[string]string{
		"Content-Type": "application/problem+json", "Cache-Control": "no-store", "Retry-After": "2", "Content-Length": "",
	} {
		if got := w.Header().Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "nobody may see") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestFrom(t *testing.T) {
	cause := errors.New("dial tcp: refused")
	for name, tt := range map[string]struct {
		err   error
		code  string
		cause string
	}{
		"a problem":             {problem.NotFound(), "not_found", ""},
		"with a cause":          {problem.AppTimeout().Because(cause), "app_timeout", "dial tcp: refused"},
		"wrapped":               {fmt.Errorf("sign in: %w", problem.WhispTimeout()), "whisp_timeout", "sign in: whisp_timeout"},
		"anything else":         {cause, "internal", "dial tcp: refused"},
		"wrapped, with a cause": {fmt.Errorf("sign in: %w", problem.WhispFailed().Because(cause)), "whisp_failed", "dial tcp: refused"},
	} {
		p := problem.From(tt.err)
		got := ""
		if p.Unwrap() != nil {
			got = p.Unwrap().Error()
		}
		if p.Code != tt.code || got != tt.cause {
			t.Errorf("%s: %s because %q", name, p.Code, got)
		}
	}
	original := problem.NotFound()
	if with := original.Because(cause); !errors.Is(with, cause) || original.Unwrap() != nil {
		t.Error("Because changed the original, or lost the cause")
	}
}
