package deploy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const chartDir = "../helm/whisp-bff"

// render is `helm template`: the chart of dir with values, as release "chat" in
// namespace "apps". It returns manifests and notes.
func render(dir string, values map[string]any) (manifests, notes string, err error) {
	loaded, err := loader.Load(dir)
	if err != nil {
		return "", "", err
	}
	return renderChart(loaded, values)
}

func renderChart(loaded *chart.Chart, values map[string]any) (manifests, notes string, err error) {
	return renderAs(loaded, values, chartutil.ReleaseOptions{IsInstall: true, Revision: 1})
}

func renderAs(loaded *chart.Chart, values map[string]any, release chartutil.ReleaseOptions) (manifests, notes string, err error) {
	if err := chartutil.ProcessDependencies(loaded, values); err != nil {
		return "", "", err
	}
	release.Name, release.Namespace = "chat", "apps"
	full, err := chartutil.ToRenderValues(loaded, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return "", "", err
	}
	files, err := engine.Render(loaded, full)
	if err != nil {
		return "", "", err
	}
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch {
		case strings.HasSuffix(name, "NOTES.txt"):
			notes += files[name]
		case strings.HasSuffix(name, ".yaml"):
			all.WriteString("\n---\n" + files[name])
		}
	}
	return all.String(), notes, nil
}

func readValues(t *testing.T, path string) map[string]any {
	t.Helper()
	values, err := chartutil.ReadValuesFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// rendered is the chart with values/<name>.yaml, decoded.
func rendered(t *testing.T, name string) (objects, string) {
	t.Helper()
	manifests, notes, err := render(chartDir, readValues(t, "values/"+name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := decode(manifests)
	if err != nil {
		t.Fatal(err)
	}
	return all, notes
}

func TestChartRenders(t *testing.T) {
	for name, want := range map[string][]string{
		"minimal": {"ConfigMap", "Deployment", "Pod", "Service", "Service", "ServiceAccount"},
		"redis":   {"ConfigMap", "Deployment", "Pod", "PodDisruptionBudget", "Service", "Service", "ServiceAccount"},
		"sidecar": {"ConfigMap", "Pod", "PrometheusRule", "Service", "Service", "ServiceMonitor"},
		"sentinel": {"ConfigMap", "Deployment", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Secret", "Service", "Service",
			"ServiceAccount"},
		"gateway": {"ConfigMap", "Deployment", "HTTPRoute", "Pod", "Service", "Service", "ServiceAccount"},
		"everything": {"ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "Pod",
			"PodDisruptionBudget", "PrometheusRule", "Secret", "Service", "Service", "ServiceAccount", "ServiceMonitor"},
	} {
		t.Run(name, func(t *testing.T) {
			all, notes := rendered(t, name)
			var got []string
			for key := range all {
				kind, _, _ := strings.Cut(key, "/")
				got = append(got, kind)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("rendered %v, want %v", got, want)
			}
			for _, unwanted := range []string{"<no value>", "%!", "map["} {
				if strings.Contains(notes, unwanted) {
					t.Errorf("notes have %q:\n%s", unwanted, notes)
				}
			}
			if !strings.Contains(notes, "BACK UP") {
				t.Errorf("notes do not say what must not be lost:\n%s", notes)
			}
		})
	}
}

// TestChartTwiceTheSame: nothing is random, or a second upgrade would change
// every account's password.
func TestChartTwiceTheSame(t *testing.T) {
	for _, path := range valueFiles(t) {
		first, _, err := render(chartDir, readValues(t, path))
		if err != nil {
			t.Fatal(err)
		}
		second, _, err := render(chartDir, readValues(t, path))
		if err != nil || first != second {
			t.Errorf("%s: two renderings differ, %v", path, err)
		}
	}
}

// TestChartUpgrade: the next version of the chart, with the same values, has the
// same secrets and configuration, and finds the pods that the last one made: a
// Deployment's selector can not be changed.
func TestChartUpgrade(t *testing.T) {
	for _, path := range valueFiles(t) {
		before, _ := rendered(t, strings.TrimSuffix(filepath.Base(path), ".yaml"))
		next, err := loader.Load(chartDir)
		if err != nil {
			t.Fatal(err)
		}
		next.Metadata.Version, next.Metadata.AppVersion = "99.0.0", "99.0.0"
		manifests, _, err := renderAs(next, readValues(t, path), chartutil.ReleaseOptions{IsUpgrade: true, Revision: 7})
		if err != nil {
			t.Fatal(err)
		}
		after, err := decode(manifests)
		if err != nil {
			t.Fatal(err)
		}
		if len(before) != len(after) {
			t.Errorf("%s: %d objects become %d", path, len(before), len(after))
		}
		for name, old := range before {
			var same bool
			switch old := old.(type) {
			case *corev1.Secret:
				// Whoever goes on with secret.existing keeps the old one, too.
				same = maps.Equal(old.StringData, one[*corev1.Secret](t, after, name).StringData) &&
					old.Annotations["helm.sh/resource-policy"] == "keep"
			case *corev1.ConfigMap:
				same = maps.Equal(old.Data, one[*corev1.ConfigMap](t, after, name).Data)
			case *appsv1.Deployment:
				same = maps.Equal(old.Spec.Selector.MatchLabels, one[*appsv1.Deployment](t, after, name).Spec.Selector.MatchLabels)
			case *corev1.Service:
				same = maps.Equal(old.Spec.Selector, one[*corev1.Service](t, after, name).Spec.Selector)
			default:
				same = after[name] != nil
			}
			if !same {
				t.Errorf("%s: an upgrade changes %s", path, name)
			}
		}
	}
}

func valueFiles(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("values/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	return paths
}

func TestChartLint(t *testing.T) {
	for _, path := range valueFiles(t) {
		linter := lint.All(chartDir, readValues(t, path), "apps", true)
		for _, message := range linter.Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s: %s", path, message)
			}
		}
	}
}

// TestChartRefuses: each file's first line says which words must be in the error.
func TestChartRefuses(t *testing.T) {
	paths, err := filepath.Glob("values/wrong/*.yaml")
	if err != nil || len(paths) < 15 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(text), "\n")
			want := strings.TrimPrefix(first, "# ")
			_, _, err = render(chartDir, readValues(t, path))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want an error with %q, got %v", want, err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error gives the password away: %v", err)
			}
		})
	}
}

// TestChartRefusesSecretsInConfig: in every place where the configuration takes
// a secret, and in none where it takes something else.
func TestChartRefusesSecretsInConfig(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "config.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema configSchema
	if err := yaml.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	secrets, others := map[string]any{}, map[string]any{}
	schema.places("config", func(v any) any { return v }, secrets, others)
	if len(secrets) < 12 || len(others) < 6 {
		t.Fatalf("found %d secrets and %d maps of text in the schema", len(secrets), len(others))
	}
	for path, config := range secrets {
		values := map[string]any{}
		chartutil.CoalesceTables(values, map[string]any{"config": config})
		chartutil.CoalesceTables(values, readValues(t, "values/minimal.yaml"))
		_, _, err := render(chartDir, values)
		if err == nil || !strings.Contains(err.Error(), path+": a secret written out") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for path, config := range others {
		values := map[string]any{}
		chartutil.CoalesceTables(values, map[string]any{"config": config})
		chartutil.CoalesceTables(values, readValues(t, "values/minimal.yaml"))
		if _, _, err := render(chartDir, values); err != nil {
			t.Errorf("%s with something that is named value: %v", path, err)
		}
	}
}

// configSchema is what the test reads of config.schema.json.
type configSchema struct {
	Ref        string                  `json:"$ref"`
	AllOf      []configSchema          `json:"allOf"`
	Properties map[string]configSchema `json:"properties"`
	Items      *configSchema           `json:"items"`
	Additional any                     `json:"additionalProperties"`
}

// places collects, by path, configurations with one secret written out each, and
// such with one entry named "value" in a map of text. wrap puts what stands at
// path into the configuration around it.
func (s configSchema) places(path string, wrap func(any) any, secrets, others map[string]any) {
	written := map[string]any{"value": "hunter2"}
	for _, part := range s.AllOf {
		part.places(path, wrap, secrets, others)
	}
	if s.Ref == "#/definitions/secret" {
		secrets[path] = wrap(written)
	}
	for name, property := range s.Properties {
		property.places(path+"."+name, func(v any) any { return wrap(map[string]any{name: v}) }, secrets, others)
	}
	if s.Items != nil {
		s.Items.places(path+"[0]", func(v any) any { return wrap([]any{v}) }, secrets, others)
	}
	switch of, _ := yaml.Marshal(s.Additional); {
	case strings.Contains(string(of), "definitions/secret"):
		secrets[path+".a"] = wrap(map[string]any{"a": written})
		secrets[path+".value"] = wrap(map[string]any{"value": written})
	case strings.Contains(string(of), "definitions/text"):
		others[path] = wrap(written)
	}
}

// TestChartRulesAreTheRules: a chart can not reach files outside, so it has a
// copy, which must be one.
func TestChartRulesAreTheRules(t *testing.T) {
	rules, err := os.ReadFile("../prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(filepath.Join(chartDir, "files/rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if string(rules) != string(copied) {
		t.Error("run: cp deploy/prometheus/rules.yaml deploy/helm/whisp-bff/files/rules.yaml")
	}
}

// TestChartReadme compares the table of values with values.yaml.
func TestChartReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		if name, ok := strings.CutPrefix(cells[0], "| `"); ok && len(cells) == 3 {
			described[strings.TrimSuffix(name, "`")] = strings.Trim(cells[1], "`")
		}
	}
	made := map[string]string{}
	leaves("", readValues(t, filepath.Join(chartDir, "values.yaml")), made)
	for name, value := range made {
		if described[name] != value {
			t.Errorf("README.md: `%s` is described with `%s`, want `%s`", name, described[name], value)
		}
		delete(described, name)
	}
	for name := range described {
		t.Errorf("README.md describes %s, which values.yaml does not have", name)
	}
}

// leaves collects what is not a table, or an empty one, as JSON by path.
// Annotations and probes are one value each.
func leaves(path string, value any, into map[string]string) {
	table, ok := value.(map[string]any)
	if ok && len(table) > 0 && !strings.HasPrefix(path, "probes.") && !strings.HasSuffix(path, "nnotations") && !strings.HasPrefix(path, "resources.") {
		for key, inner := range table {
			leaves(strings.TrimPrefix(path+"."+key, "."), inner, into)
		}
		return
	}
	if ok && len(table) > 0 {
		into[path] = "see values.yaml"
		return
	}
	text, err := yaml.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", path, err))
	}
	into[path] = strings.TrimSpace(strings.ReplaceAll(string(text), "\n- ", ", "))
	if list, ok := value.([]any); ok && len(list) > 0 {
		into[path] = strings.TrimPrefix(into[path], "- ")
	}
}
