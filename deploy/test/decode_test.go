package deploy

import (
	"fmt"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// kinds are what may come out of the chart and the examples.
var kinds = map[string]func() metav1.Object{
	"v1/ConfigMap":                            func() metav1.Object { return &corev1.ConfigMap{} },
	"v1/Secret":                               func() metav1.Object { return &corev1.Secret{} },
	"v1/Service":                              func() metav1.Object { return &corev1.Service{} },
	"v1/ServiceAccount":                       func() metav1.Object { return &corev1.ServiceAccount{} },
	"v1/Pod":                                  func() metav1.Object { return &corev1.Pod{} },
	"v1/Namespace":                            func() metav1.Object { return &corev1.Namespace{} },
	"apps/v1/Deployment":                      func() metav1.Object { return &appsv1.Deployment{} },
	"autoscaling/v2/HorizontalPodAutoscaler":  func() metav1.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"policy/v1/PodDisruptionBudget":           func() metav1.Object { return &policyv1.PodDisruptionBudget{} },
	"networking.k8s.io/v1/NetworkPolicy":      func() metav1.Object { return &networkingv1.NetworkPolicy{} },
	"networking.k8s.io/v1/Ingress":            func() metav1.Object { return &networkingv1.Ingress{} },
	"gateway.networking.k8s.io/v1/HTTPRoute":  func() metav1.Object { return &gatewayv1.HTTPRoute{} },
	"monitoring.coreos.com/v1/ServiceMonitor": func() metav1.Object { return &monitoringv1.ServiceMonitor{} },
	"monitoring.coreos.com/v1/PrometheusRule": func() metav1.Object { return &monitoringv1.PrometheusRule{} },
}

// objects are decoded manifests by "Kind/name".
type objects map[string]metav1.Object

// decode reads a stream of manifests strictly: a field that its type does not
// have, or that stands twice, is an error.
func decode(stream string) (objects, error) {
	found := objects{}
	for _, document := range strings.Split("\n"+stream, "\n---") {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, document)
		}
		if head.Kind == "" {
			if strings.TrimSpace(withoutComments(document)) != "" {
				return nil, fmt.Errorf("no kind in\n%s", document)
			}
			continue
		}
		empty := kinds[head.APIVersion+"/"+head.Kind]
		if empty == nil {
			return nil, fmt.Errorf("%s %s is not a kind that this test knows", head.APIVersion, head.Kind)
		}
		object := empty()
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			return nil, fmt.Errorf("%s: %w in\n%s", head.Kind, err, document)
		}
		name := head.Kind + "/" + object.GetName()
		if found[name] != nil {
			return nil, fmt.Errorf("%s comes twice", name)
		}
		if problems := checkMeta(object); len(problems) > 0 {
			return nil, fmt.Errorf("%s: %s", name, strings.Join(problems, "; "))
		}
		found[name] = object
	}
	return found, nil
}

func withoutComments(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// checkMeta is what an API server says of names and labels.
func checkMeta(object metav1.Object) []string {
	problems := validation.IsDNS1123Subdomain(object.GetName())
	for key, value := range object.GetLabels() {
		problems = append(problems, validation.IsQualifiedName(key)...)
		problems = append(problems, validation.IsValidLabelValue(value)...)
	}
	for key := range object.GetAnnotations() {
		problems = append(problems, validation.IsQualifiedName(strings.ToLower(key))...)
	}
	return problems
}

// one returns the object of that type and name.
func one[T metav1.Object](t *testing.T, all objects, name string) T {
	t.Helper()
	object, ok := all[name].(T)
	if !ok {
		var have []string
		for name := range all {
			have = append(have, name)
		}
		t.Fatalf("no %s among %q", name, have)
	}
	return object
}

func TestDecodeRefusesWhatAnAPIServerWould(t *testing.T) {
	for name, manifest := range map[string]string{
		"unknown field":  "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: [{port: 80}]}",
		"field twice":    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: ClusterIP\n  type: ClusterIP",
		"wrong type":     "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: two}",
		"bad name":       "apiVersion: v1\nkind: Service\nmetadata: {name: A_b}",
		"unknown kind":   "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: a}",
		"bad label":      "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {x: a/b}}",
		"gateway field":  "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {hostname: a}",
		"no kind at all": "metadata: {name: a}",
	} {
		if _, err := decode(manifest); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
