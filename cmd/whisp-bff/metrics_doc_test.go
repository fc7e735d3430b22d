package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/telemetry"
)

// docMetrics is read by operators, and by the tests of the alerts and the
// dashboard, which believe it. This test is why they may.
const docMetrics = "../../docs/metrics.md"

// metric is one as the source makes it, or as docs/metrics.md describes it.
type metric struct{ kind, labels, help string }

// TestMetricsPage compares docs/metrics.md with every prometheus.New… in the
// source: what depends on the configuration is there as well.
func TestMetricsPage(t *testing.T) {
	made, described := madeMetrics(t), describedMetrics(t)
	for name, m := range made {
		switch page, ok := described[name]; {
		case !ok:
			t.Errorf("add to docs/metrics.md: | `%s` | %s | %s | %s | what to do with it |", name, m.kind, m.labels, m.help)
		case page != m:
			t.Errorf("docs/metrics.md says of %s\n%+v, but it is\n%+v", name, page, m)
		}
	}
	for name := range described {
		if _, ok := made[name]; !ok && strings.HasPrefix(name, "whisp_bff_") {
			t.Errorf("docs/metrics.md describes %s, which nobody makes", name)
		}
	}
}

// TestMetricsPageRuntime checks the names of the Go runtime's and the process's
// own metrics, which no source of ours makes.
func TestMetricsPageRuntime(t *testing.T) {
	families, err := telemetry.NewRegistry(telemetry.Version{}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	exposed := map[string]string{}
	for _, family := range families {
		exposed[family.GetName()] = strings.ToLower(family.GetType().String())
	}
	for name, m := range describedMetrics(t) {
		if !strings.HasPrefix(name, "whisp_bff_") && exposed[name] != m.kind {
			t.Errorf("docs/metrics.md says that %s is a %s; exposed is %q", name, m.kind, exposed[name])
		}
	}
}

var metricRow = regexp.MustCompile("^\\| `([a-z0-9_]+)` \\| ([a-z]+) \\| (.*?) \\| (.*?) \\| (.+) \\|$")

// describedMetrics reads the tables of docs/metrics.md.
func describedMetrics(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile(docMetrics)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]metric{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cell := metricRow.FindStringSubmatch(line)
		if cell == nil {
			t.Fatalf("not a row of five cells: %s", line)
		}
		if _, ok := found[cell[1]]; ok {
			t.Errorf("%s is described twice", cell[1])
		}
		found[cell[1]] = metric{kind: cell[2], labels: strings.ReplaceAll(cell[3], "`", ""), help: cell[4]}
	}
	if len(found) == 0 {
		t.Fatal("nothing found")
	}
	return found
}

// madeMetrics finds every call of prometheus.New{Counter,Gauge,Histogram}… in the
// product's source. Name, help and labels must be written there as literals: that
// is also what makes a metric easy to find.
func madeMetrics(t *testing.T) map[string]metric {
	t.Helper()
	found := map[string]metric{}
	for _, root := range []string{"../../internal", "."} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if kind := metricKind(call); kind != "" {
						name, m := literalMetric(t, kind, call, files)
						if _, ok := found[name]; ok {
							t.Errorf("%s is made twice", name)
						}
						found[name] = m
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) == 0 {
		t.Fatal("nothing found")
	}
	return found
}

var metricMaker = regexp.MustCompile(`^New(Counter|Gauge|Histogram|Summary)(Vec|Func)?$`)

// metricKind is counter, gauge, histogram or summary, or empty.
func metricKind(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !isIdent(selector.X, "prometheus") {
		return ""
	}
	made := metricMaker.FindStringSubmatch(selector.Sel.Name)
	if made == nil {
		return ""
	}
	return strings.ToLower(made[1])
}

func literalMetric(t *testing.T, kind string, call *ast.CallExpr, files *token.FileSet) (string, metric) {
	t.Helper()
	where := files.Position(call.Pos())
	options, ok := call.Args[0].(*ast.CompositeLit)
	if !ok {
		t.Fatalf("%s: write the options as a literal", where)
	}
	m, name, labels := metric{kind: kind}, "", []string(nil)
	for _, element := range options.Elts {
		field, ok := element.(*ast.KeyValueExpr)
		if !ok {
			t.Fatalf("%s", where)
		}
		switch {
		case isIdent(field.Key, "Name"):
			name = text(t, field.Value, where)
		case isIdent(field.Key, "Help"):
			m.help = text(t, field.Value, where)
		case isIdent(field.Key, "ConstLabels"):
			for _, label := range field.Value.(*ast.CompositeLit).Elts {
				labels = append(labels, text(t, label.(*ast.KeyValueExpr).Key, where))
			}
		default:
			if !isIdent(field.Key, "Buckets") {
				t.Fatalf("%s: write the whole name into Name", where)
			}
		}
	}
	if strings.HasSuffix(call.Fun.(*ast.SelectorExpr).Sel.Name, "Vec") {
		list, ok := call.Args[1].(*ast.CompositeLit)
		if !ok {
			t.Fatalf("%s: write the labels as a literal", where)
		}
		for _, label := range list.Elts {
			labels = append(labels, text(t, label, where))
		}
	}
	m.labels = strings.Join(labels, ", ")
	return name, m
}

func isIdent(e ast.Expr, name string) bool {
	ident, ok := e.(*ast.Ident)
	return ok && ident.Name == name
}

func text(t *testing.T, e ast.Expr, where token.Position) string {
	t.Helper()
	literal, ok := e.(*ast.BasicLit)
	if !ok {
		t.Fatalf("%s: write it as a literal", where)
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
