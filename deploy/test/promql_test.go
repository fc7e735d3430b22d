package deploy

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// targetLabels are what Prometheus itself adds to every series it scrapes, here
// and in Kubernetes.
var targetLabels = []string{"job", "instance", "namespace", "pod", "service", "endpoint", "container"}

var (
	metricRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([a-z]+) \\| ([^|]*) \\|")
	// dashboardWords are Grafana's, put in before Prometheus sees the query.
	dashboardWords = strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$instance", ".*")
)

// documented reads docs/metrics.md, which another test keeps true: every series
// name and the labels it may have.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, row := range metricRow.FindAllStringSubmatch(string(text), -1) {
		own := strings.FieldsFunc(row[3], func(r rune) bool { return r == ',' || r == ' ' })
		switch row[2] {
		case "histogram":
			found[row[1]+"_bucket"] = append(slices.Clone(own), "le")
			found[row[1]+"_sum"], found[row[1]+"_count"] = own, own
		case "summary":
			found[row[1]] = own
			found[row[1]+"_sum"], found[row[1]+"_count"] = nil, nil
		default:
			found[row[1]] = own
		}
	}
	if len(found) < 20 {
		t.Fatalf("only %d metrics found in docs/metrics.md", len(found))
	}
	return found
}

// checkExpression parses expr and looks up its metrics and labels. A label that
// is matched must be one of its metric's; one that is grouped by, of any metric
// in the expression.
func checkExpression(t *testing.T, where, expr string, known map[string][]string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v in\n%s", where, err, expr)
		return
	}
	possible, grouped := slices.Clone(targetLabels), []string(nil)
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.VectorSelector:
			name := node.Name
			if name == "ALERTS" { // Prometheus' own
				return nil
			}
			own, ok := known[name]
			if !ok {
				t.Errorf("%s: %s is not in docs/metrics.md", where, name)
			}
			possible = append(possible, own...)
			for _, matcher := range node.LabelMatchers {
				if matcher.Name != model.MetricNameLabel && !slices.Contains(own, matcher.Name) && !slices.Contains(targetLabels, matcher.Name) {
					t.Errorf("%s: %s has no label %s", where, name, matcher.Name)
				}
			}
		case *parser.AggregateExpr:
			grouped = append(grouped, node.Grouping...)
		case *parser.BinaryExpr:
			if node.VectorMatching != nil {
				grouped = append(grouped, node.VectorMatching.MatchingLabels...)
			}
		}
		return nil
	})
	for _, label := range grouped {
		if !slices.Contains(possible, label) {
			t.Errorf("%s: groups by %s, which no metric in it has", where, label)
		}
	}
}

func TestExpressionsAreLookedUp(t *testing.T) {
	known := documented(t)
	for name, label := range map[string]string{
		"whisp_bff_http_requests_total": "status", "whisp_bff_http_request_duration_seconds_bucket": "le", "whisp_bff_realtime_tunnels": "",
	} {
		own, ok := known[name]
		if !ok || label != "" && !slices.Contains(own, label) {
			t.Errorf("%s has labels %v", name, own)
		}
	}
	if _, ok := known["whisp_bff_http_request_duration_seconds"]; ok {
		t.Error("a histogram has no series of its own name")
	}
}

var label = regexp.MustCompile(`\$labels\.(\w+)`)

func TestAlerts(t *testing.T) {
	path := "../prometheus/rules.yaml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	runbook := sections(t)
	known := documented(t)
	seen := map[string]bool{}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			checkExpression(t, rule.Alert, rule.Expr, known)
			if seen[rule.Alert] {
				t.Errorf("%s stands twice", rule.Alert)
			}
			seen[rule.Alert] = true
			if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) {
				t.Errorf("%s: severity %q", rule.Alert, rule.Labels["severity"])
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s: no summary or description", rule.Alert)
			}
			page, anchor, _ := strings.Cut(rule.Annotations["runbook_url"], "#")
			if !strings.HasSuffix(page, "/docs/runbook.md") || anchor != strings.ToLower(rule.Alert) {
				t.Errorf("%s: runbook_url %s", rule.Alert, rule.Annotations["runbook_url"])
			}
			checkSection(t, rule.Alert, runbook[rule.Alert])
			checkTemplateLabels(t, rule, known)
		}
	}
	for section := range runbook {
		if !seen[section] {
			t.Errorf("docs/runbook.md has a section for %s, which is no alert", section)
		}
	}
}

// checkTemplateLabels: an aggregated expression has no label but those it groups
// by, and a template would print nothing.
func checkTemplateLabels(t *testing.T, rule rulefmt.Rule, known map[string][]string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
	if err != nil {
		return // reported before
	}
	var left []string
	aggregated := false
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.AggregateExpr:
			aggregated = true
			left = append(left, node.Grouping...)
		case *parser.VectorSelector:
			if !aggregated {
				left = append(append(left, targetLabels...), known[node.Name]...)
			}
		}
		return nil
	})
	for _, text := range rule.Annotations {
		for _, used := range label.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(left, used[1]) {
				t.Errorf("%s: $labels.%s is empty in the alert", rule.Alert, used[1])
			}
		}
	}
}

// sections are the runbook's, by heading, those before the first alert left out.
func sections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docs/runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		heading, body, _ := strings.Cut(part, "\n")
		found[strings.TrimSpace(heading)] = body
	}
	return found
}

// checkSection wants the three questions of a runbook, in order.
func checkSection(t *testing.T, alert, body string) {
	t.Helper()
	at := 0
	for _, question := range []string{"**What it means.**", "**How to see it.**", "**What to do.**"} {
		next := strings.Index(body[at:], question)
		if next < 0 {
			t.Errorf("docs/runbook.md, %s: no %q in its place", alert, question)
			return
		}
		at += next
	}
}

var link = regexp.MustCompile(`\]\(#([^)]+)\)`)

func TestRunbookLinksLeadSomewhere(t *testing.T) {
	anchors := map[string]bool{}
	for heading := range sections(t) {
		anchors[strings.ToLower(heading)] = true
	}
	for heading, body := range sections(t) {
		for _, found := range link.FindAllStringSubmatch(body, -1) {
			if !anchors[found[1]] {
				t.Errorf("%s links to #%s", heading, found[1])
			}
		}
	}
}

// dashboard is what the test reads of Grafana's model.
type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct {
		List []struct{ Name, Expr string }
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		GridPos                  struct{ X, Y, W, H int }
		Targets                  []struct{ Expr, LegendFormat string }
		FieldConfig              struct{ Defaults struct{ Unit string } }
	}
}

var (
	legend   = regexp.MustCompile(`\{\{(\w+)\}\}`)
	variable = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
)

func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../grafana/whisp-bff.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	known := documented(t)
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: id %d is another panel's", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Errorf("%s lies over %q or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("%s: data source %q, unit %q, description %q, %d queries", p.Title, p.Datasource.UID, p.FieldConfig.Defaults.Unit, p.Description, len(p.Targets))
		}
		for _, target := range p.Targets {
			checkExpression(t, p.Title, dashboardWords.Replace(target.Expr), known)
			for _, used := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(targetLabels, used[1]) && !strings.Contains(target.Expr, used[1]) {
					t.Errorf("%s: the legend shows %s, which the query does not keep", p.Title, used[1])
				}
			}
		}
	}
	for _, a := range d.Annotations.List {
		checkExpression(t, "annotation "+a.Name, dashboardWords.Replace(a.Expr), known)
	}
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		if v.Type == "query" {
			parts := variable.FindStringSubmatch(v.Definition)
			if parts == nil || !slices.Contains(targetLabels, parts[2]) {
				t.Errorf("variable %s: %s", v.Name, v.Definition)
				continue
			}
			checkExpression(t, "variable "+v.Name, dashboardWords.Replace(parts[1]), known)
		}
	}
	if !slices.Equal(names, []string{"datasource", "namespace", "instance"}) {
		t.Errorf("variables are %v", names)
	}
}
