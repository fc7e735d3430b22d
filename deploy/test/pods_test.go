package deploy

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// podSpecs are the pods that come of the objects, by the name of what makes them.
func podSpecs(all objects) map[string]corev1.PodTemplateSpec {
	found := map[string]corev1.PodTemplateSpec{}
	for name, object := range all {
		switch object := object.(type) {
		case *appsv1.Deployment:
			found[name] = object.Spec.Template
		case *corev1.Pod:
			found[name] = corev1.PodTemplateSpec{ObjectMeta: object.ObjectMeta, Spec: object.Spec}
		}
	}
	return found
}

// checkRestricted applies the restricted profile of the Pod Security Standards,
// a read-only root file system and no token. It looks at containers of that name
// only, where one is given: an app's own container is the app's affair.
func checkRestricted(t *testing.T, name string, pod corev1.PodSpec, only string) {
	t.Helper()
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("%s: the token of the ServiceAccount is mounted", name)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Errorf("%s: uses the host's namespaces", name)
	}
	for _, volume := range pod.Volumes {
		v := volume.VolumeSource
		if v.ConfigMap == nil && v.Secret == nil && v.EmptyDir == nil && v.Projected == nil && v.PersistentVolumeClaim == nil {
			t.Errorf("%s: volume %s is of a kind that is not allowed", name, volume.Name)
		}
	}
	seen := false
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if only != "" && c.Name != only {
			continue
		}
		seen = true
		s := c.SecurityContext
		switch {
		case s == nil:
			t.Errorf("%s: %s has no securityContext", name, c.Name)
		case s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation,
			s.Privileged != nil && *s.Privileged,
			s.RunAsNonRoot == nil || !*s.RunAsNonRoot,
			s.RunAsUser != nil && *s.RunAsUser == 0,
			s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem,
			s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0,
			s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
			t.Errorf("%s: %s is not restricted: %+v", name, c.Name, s)
		}
		for _, port := range c.Ports {
			if port.HostPort != 0 {
				t.Errorf("%s: %s takes port %d of the host", name, c.Name, port.HostPort)
			}
		}
	}
	if !seen {
		t.Errorf("%s: no container %s", name, only)
	}
}

func TestChartPodsAreRestricted(t *testing.T) {
	for _, path := range valueFiles(t) {
		all, _ := rendered(t, strings.TrimSuffix(filepath.Base(path), ".yaml"))
		for name, pod := range podSpecs(all) {
			checkRestricted(t, path+": "+name, pod.Spec, "")
		}
	}
}

// matches reports whether the selector's labels are all there.
func matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}

// checkServices: every Service finds its pods, by a port that they have.
func checkServices(t *testing.T, all objects) {
	t.Helper()
	pods := podSpecs(all)
	for name, object := range all {
		service, ok := object.(*corev1.Service)
		if !ok {
			continue
		}
		found := 0
		for podName, pod := range pods {
			if !matches(service.Spec.Selector, pod.Labels) {
				continue
			}
			found++
			if strings.HasPrefix(podName, "Pod/") {
				t.Errorf("%s sends people to %s", name, podName)
			}
			for _, port := range service.Spec.Ports {
				if containerPort(pod.Spec, port.TargetPort.String()) == 0 {
					t.Errorf("%s: no container of %s has a port %s", name, podName, port.TargetPort.String())
				}
			}
		}
		if found == 0 {
			t.Errorf("%s finds no pod", name)
		}
	}
}

// containerPort finds a port by name or number; 0 if there is none.
func containerPort(pod corev1.PodSpec, wanted string) int32 {
	for _, c := range pod.Containers {
		for _, port := range c.Ports {
			if port.Name == wanted || strconv.Itoa(int(port.ContainerPort)) == wanted {
				return port.ContainerPort
			}
		}
	}
	return 0
}

func TestChartSelectorsAgree(t *testing.T) {
	for _, name := range []string{"minimal", "redis", "sentinel", "gateway", "everything"} {
		t.Run(name, func(t *testing.T) {
			all, _ := rendered(t, name)
			checkServices(t, all)
			full := "chat-whisp-bff"
			if name == "everything" {
				full = "chat-front"
			}
			deployment := one[*appsv1.Deployment](t, all, "Deployment/"+full)
			pod := deployment.Spec.Template
			if !matches(deployment.Spec.Selector.MatchLabels, pod.Labels) {
				t.Errorf("Deployment selects %v, its pods have %v", deployment.Spec.Selector.MatchLabels, pod.Labels)
			}
			for _, spread := range pod.Spec.TopologySpreadConstraints {
				if !matches(spread.LabelSelector.MatchLabels, pod.Labels) {
					t.Errorf("spread by %s counts other pods", spread.TopologyKey)
				}
			}
			checkMounts(t, pod.Spec)
		})
	}
}

// checkMounts: what a container mounts is a volume of the pod.
func checkMounts(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	for _, c := range pod.Containers {
		for _, mount := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name }) {
				t.Errorf("%s mounts %s, which is no volume", c.Name, mount.Name)
			}
		}
	}
}

func TestChartPortsFitTheConfiguration(t *testing.T) {
	for name, full := range map[string]string{"minimal": "chat-whisp-bff", "everything": "chat-front"} {
		all, _ := rendered(t, name)
		_, config := configOf(t, all, full)
		pod := one[*appsv1.Deployment](t, all, "Deployment/"+full).Spec.Template.Spec
		for port, listen := range map[string]string{"bff-http": config.Server.Listen, "bff-admin": config.Server.AdminListen} {
			if got := ":" + strconv.Itoa(int(containerPort(pod, port))); got != listen {
				t.Errorf("%s: port %s is %s, whisp-bff listens on %s", name, port, got, listen)
			}
		}
		for probe, p := range map[string]*corev1.Probe{"liveness": pod.Containers[0].LivenessProbe, "readiness": pod.Containers[0].ReadinessProbe} {
			if p.HTTPGet.Port.String() != "bff-admin" {
				t.Errorf("%s: %s asks %s", name, probe, p.HTTPGet.Port.String())
			}
		}
	}
}

// TestChartPodsMayTakeAsLongAsTheyNeed: a pod that is killed while it drains
// sends all its sockets away at once.
func TestChartPodsMayTakeAsLongAsTheyNeed(t *testing.T) {
	for name, want := range map[string]int64{
		"Deployment/chat-whisp-bff minimal":  5 + 20 + 15 + 10,
		"Deployment/chat-whisp-bff redis":    2 + 90 + 30 + 10, // 1500ms, 1m30s, 30s
		"Deployment/chat-whisp-bff sentinel": 0 + 20 + 15 + 10, // shutdown_delay: 0, without a unit
		"Deployment/chat-front everything":   3 + 5 + 20 + 15 + 10,
	} {
		deployment, values, _ := strings.Cut(name, " ")
		all, _ := rendered(t, values)
		if got := *one[*appsv1.Deployment](t, all, deployment).Spec.Template.Spec.TerminationGracePeriodSeconds; got != want {
			t.Errorf("%s: %d s, want %d", name, got, want)
		}
	}
}

// TestChartHelmTest runs what the pod of helm test runs, against a server that is
// ready and one that is not.
func TestChartHelmTest(t *testing.T) {
	for values, name := range map[string]string{"minimal": "chat-whisp-bff", "sidecar": "chat-whisp-bff", "everything": "chat-front"} {
		all, _ := rendered(t, values)
		admin := one[*corev1.Service](t, all, "Service/"+name+"-admin")
		pod := one[*corev1.Pod](t, all, "Pod/"+name+"-test-ready")
		service := "http://" + admin.Name + ":" + strconv.Itoa(int(admin.Spec.Ports[0].Port)) + "/"
		if deployment, ok := all["Deployment/"+name].(*appsv1.Deployment); ok {
			spec := deployment.Spec.Template.Spec
			if !reflect.DeepEqual(pod.Spec.NodeSelector, spec.NodeSelector) || !reflect.DeepEqual(pod.Spec.Tolerations, spec.Tolerations) {
				t.Errorf("%s: may find no node where whisp-bff finds one", values)
			}
		}
		for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" {
					t.Errorf("%s: asks for %s", values, r.URL.Path)
				}
				w.WriteHeader(status)
			}))
			args := slices.Clone(pod.Spec.Containers[0].Args)
			for i, arg := range args {
				args[i] = strings.Replace(arg, service, server.URL+"/", 1)
			}
			out, err := exec.Command(binary(t), args...).CombinedOutput()
			server.Close()
			if slices.Equal(args, pod.Spec.Containers[0].Args) || (err == nil) != (status == http.StatusOK) {
				t.Errorf("%s: %v with status %d: %v %s", values, pod.Spec.Containers[0].Args, status, err, out)
			}
		}
	}
}

func TestChartRollsOutWhatChanged(t *testing.T) {
	annotations := func(values map[string]any) map[string]string {
		manifests, _, err := render(chartDir, values)
		if err != nil {
			t.Fatal(err)
		}
		all, err := decode(manifests)
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range podSpecs(all) {
			if _, ok := pod.Annotations["helm.sh/hook"]; !ok {
				return pod.Annotations
			}
		}
		return nil
	}
	before := annotations(readValues(t, "values/everything.yaml"))
	for _, change := range []string{"config.log.level", "secret.values.whisp-api-key"} {
		values := readValues(t, "values/everything.yaml")
		set(values, strings.Split(change, "."), "error")
		if maps.Equal(before, annotations(values)) {
			t.Errorf("a change of %s restarts nothing", change)
		}
		set(values, []string{"configChange"}, "reload")
		if got := annotations(values); len(got) != 1 || got["g"] != "h" {
			t.Errorf("configChange: reload leaves %v", got)
		}
	}
}

func set(values map[string]any, path []string, value any) {
	for _, key := range path[:len(path)-1] {
		values = values[key].(map[string]any)
	}
	values[path[len(path)-1]] = value
}

func TestChartScalesOnSockets(t *testing.T) {
	all, _ := rendered(t, "everything")
	metric := one[*autoscalingv2.HorizontalPodAutoscaler](t, all, "HorizontalPodAutoscaler/chat-front").Spec.Metrics[0].Pods
	if _, ok := documented(t)[metric.Metric.Name]; !ok {
		t.Errorf("scales on %s, which docs/metrics.md does not know", metric.Metric.Name)
	}
	if one[*appsv1.Deployment](t, all, "Deployment/chat-front").Spec.Replicas != nil {
		t.Error("the Deployment has replicas of its own: every upgrade would undo the scaling")
	}
}

// TestChartNetworkPolicy: the ports that whisp-bff must reach are those of its
// configuration, and the admin port is not open to all.
func TestChartNetworkPolicy(t *testing.T) {
	all, _ := rendered(t, "everything")
	policy := one[*networkingv1.NetworkPolicy](t, all, "NetworkPolicy/chat-front").Spec
	if ports, want := egressPorts(policy), []string{"53", "53", "443", "3000", "6379", "8443"}; !slices.Equal(ports, want) {
		t.Errorf("may reach ports %v, want %v", ports, want)
	}
	for _, rule := range policy.Ingress {
		if rule.Ports[0].Port.String() == "bff-admin" && len(rule.From) == 0 {
			t.Error("the admin port is open to everybody")
		}
	}
	pods := podSpecs(all)
	if !matches(policy.PodSelector.MatchLabels, pods["Deployment/chat-front"].Labels) {
		t.Error("the policy is for other pods")
	}
	test, ok := pods["Pod/chat-front-test-ready"]
	if !ok || !matches(policy.Ingress[1].From[0].PodSelector.MatchLabels, test.Labels) {
		t.Error("helm test may not ask what it wants to know")
	}
}

func egressPorts(policy networkingv1.NetworkPolicySpec) []string {
	var ports []string
	for _, rule := range policy.Egress {
		for _, port := range rule.Ports {
			ports = append(ports, port.Port.String())
		}
	}
	return ports
}

// TestChartNetworkPolicyOpensEverySource: whoever may say who people are can be
// asked, and Redis itself as well as the Sentinels that know where it is.
func TestChartNetworkPolicyOpensEverySource(t *testing.T) {
	all, _ := rendered(t, "sentinel")
	ports := egressPorts(one[*networkingv1.NetworkPolicy](t, all, "NetworkPolicy/chat-whisp-bff").Spec)
	slices.Sort(ports)
	want := []string{
		"26379", "26380", // Sentinels
		"3000", // the app
		"443",
		"53", "53",
		"6379", // Redis
		"7001", // the provider
		"7002", // Whisp
		"7003", // bearer, by discovery
		"7004", // bearer, jwks_url
		"7005", // introspection
		"7006", // app_session
	}
	if !slices.Equal(ports, want) {
		t.Errorf("may reach ports\n%v, want\n%v", ports, want)
	}
}
