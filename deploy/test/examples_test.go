package deploy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const examples = "../examples"

func readExample(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// composeFile is the subset of the Compose specification that the example uses.
type composeFile struct {
	Name     string                    `json:"name"`
	Services map[string]composeService `json:"services"`
	Volumes  map[string]any            `json:"volumes"`
}

type composeService struct {
	Image           string            `json:"image"`
	Build           string            `json:"build"`
	Command         []string          `json:"command"`
	Environment     map[string]string `json:"environment"`
	EnvFile         []string          `json:"env_file"`
	Ports           []string          `json:"ports"`
	Volumes         []string          `json:"volumes"`
	WorkingDir      string            `json:"working_dir"`
	NetworkMode     string            `json:"network_mode"`
	ReadOnly        bool              `json:"read_only"`
	CapDrop         []string          `json:"cap_drop"`
	SecurityOpt     []string          `json:"security_opt"`
	StopGracePeriod string            `json:"stop_grace_period"`
	Restart         string            `json:"restart"`
	DependsOn       []string          `json:"depends_on"`
}

func TestExampleCompose(t *testing.T) {
	var file composeFile
	if err := yaml.UnmarshalStrict([]byte(readExample(t, "compose/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	for name, service := range file.Services {
		if (service.Image == "") == (service.Build == "") {
			t.Errorf("%s: needs an image or a build", name)
		}
		if service.Build != "" {
			if _, err := os.Stat(filepath.Join(examples, "compose", service.Build, "Dockerfile")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to the network", name, port)
			}
		}
		for _, other := range service.DependsOn {
			if _, ok := file.Services[other]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := file.Volumes[source]; !ok {
					t.Errorf("%s: volume %s is not declared", name, source)
				}
			} else if _, err := os.Stat(filepath.Join(examples, "compose", source)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	bff := file.Services["whisp-bff"]
	if !bff.ReadOnly || !slices.Equal(bff.CapDrop, []string{"ALL"}) {
		t.Errorf("whisp-bff is not shut in: %+v", bff)
	}
	if grace, err := time.ParseDuration(bff.StopGracePeriod); err != nil || grace < 35*time.Second {
		t.Errorf("stop_grace_period %s is shorter than drain and shutdown_timeout", bff.StopGracePeriod)
	}
}

var fromEnvironment = regexp.MustCompile(`\{env: (\w+)\}`)

// TestExampleComposeConfiguration reads the secrets from the README's block, as
// the person who follows it does.
func TestExampleComposeConfiguration(t *testing.T) {
	config := readExample(t, "compose/config.yaml")
	env := os.Environ()
	readme := readExample(t, "compose/README.md")
	for _, used := range fromEnvironment.FindAllStringSubmatch(config, -1) {
		value := regexp.MustCompile(`(?m)^` + used[1] + `=(.+)$`).FindStringSubmatch(readme)
		if value == nil {
			t.Errorf("README.md does not say how to make %s", used[1])
			continue
		}
		text := value[1]
		if strings.HasPrefix(text, "$(openssl rand") {
			text = strings.Repeat(used[1], 4)
		}
		env = append(env, used[1]+"="+text)
	}
	cmd := exec.Command(binary(t), "validate", "--config", filepath.Join(examples, "compose/config.yaml"))
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestExampleComposeRealmFits(t *testing.T) {
	type client struct {
		ClientID     string            `json:"clientId"`
		Secret       string            `json:"secret"`
		RedirectURIs []string          `json:"redirectUris"`
		Attributes   map[string]string `json:"attributes"`
	}
	var realm struct {
		Realm   string   `json:"realm"`
		Clients []client `json:"clients"`
	}
	if err := json.Unmarshal([]byte(readExample(t, "compose/realm.json")), &realm); err != nil {
		t.Fatal(err)
	}
	var config struct {
		PublicURL string `json:"public_url"`
		Login     struct {
			Issuer   string `json:"issuer"`
			ClientID string `json:"client_id"`
		} `json:"login"`
	}
	if err := yaml.Unmarshal([]byte(readExample(t, "compose/config.yaml")), &config); err != nil {
		t.Fatal(err)
	}
	found := realm.Clients[0]
	if found.ClientID != config.Login.ClientID || !strings.HasSuffix(config.Login.Issuer, "/realms/"+realm.Realm) ||
		!slices.Equal(found.RedirectURIs, []string{config.PublicURL + "/auth/callback"}) ||
		found.Attributes["backchannel.logout.url"] != config.PublicURL+"/auth/backchannel-logout" {
		t.Errorf("client %+v does not fit %+v", found, config)
	}
	if !strings.Contains(readExample(t, "compose/README.md"), "OIDC_CLIENT_SECRET="+found.Secret+"\n") {
		t.Error("README.md has another client secret")
	}
	compose := readExample(t, "compose/compose.yaml")
	if base, _, _ := strings.Cut(config.Login.Issuer, "/realms/"); !strings.Contains(compose, "--hostname="+base) {
		t.Errorf("Keycloak is not told that it is %s", base)
	}
}

func TestExampleKubernetesSidecar(t *testing.T) {
	all, err := decode(readExample(t, "kubernetes-sidecar/namespace.yaml") + "\n---\n" + readExample(t, "kubernetes-sidecar/app.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := readExample(t, "kubernetes-sidecar/config.yaml")
	t.Run("configuration", func(t *testing.T) { validate(t, config, "/run/secrets/whisp-bff/") })
	deployment := one[*appsv1.Deployment](t, all, "Deployment/web")
	checkSidecar(t, deployment, config)
	if !matches(one[*policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget/web").Spec.Selector.MatchLabels, deployment.Spec.Template.Labels) {
		t.Error("the disruption budget is for other pods")
	}
	checkServices(t, all)
	readme := readExample(t, "kubernetes-sidecar/README.md")
	for file := range secretFiles(config, "/run/secrets/whisp-bff/") {
		if !strings.Contains(readme, "--from-literal="+file+"=") {
			t.Errorf("README.md does not say how to make %s", file)
		}
	}
	var kustomization struct {
		Namespace          string
		Resources          []string
		ConfigMapGenerator []struct {
			Name  string
			Files []string
		}
	}
	if err := yaml.UnmarshalStrict([]byte(readExample(t, "kubernetes-sidecar/kustomization.yaml")), &kustomization); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(kustomization.Resources, kustomization.ConfigMapGenerator[0].Files) {
		readExample(t, "kubernetes-sidecar/"+name)
	}
}

// checkSidecar: the pod's ports and times fit the configuration, and the app
// outlives what whisp-bff still brings it.
func checkSidecar(t *testing.T, deployment *appsv1.Deployment, config string) {
	t.Helper()
	pod := deployment.Spec.Template.Spec
	checkRestricted(t, deployment.Name, pod, "whisp-bff")
	checkMounts(t, pod)
	if !matches(deployment.Spec.Selector.MatchLabels, deployment.Spec.Template.Labels) {
		t.Error("the Deployment selects other pods")
	}
	var parsed settings
	if err := yaml.Unmarshal([]byte(config), &parsed); err != nil {
		t.Fatal(err)
	}
	if _, port, _ := strings.Cut(parsed.Server.AdminListen, ":"); port != strconv.Itoa(int(containerPort(pod, "bff-admin"))) {
		t.Errorf("admin port is %d, whisp-bff listens on %s", containerPort(pod, "bff-admin"), parsed.Server.AdminListen)
	}
	if !strings.HasPrefix(parsed.App.URL, "http://127.0.0.1:") {
		t.Errorf("the app is %s, not in the same pod", parsed.App.URL)
	}
	const drain, timeout, rest = 20 * time.Second, 15 * time.Second, 10 * time.Second // whisp-bff's defaults
	delay, err := time.ParseDuration(parsed.Server.ShutdownDelay)
	if err != nil {
		t.Fatal(err)
	}
	serving := int64((delay + drain + timeout).Seconds())
	app := pod.Containers[slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == "app" })]
	if app.Lifecycle == nil || app.Lifecycle.PreStop.Sleep.Seconds < serving {
		t.Errorf("the app ends before whisp-bff has served for %d s", serving)
	}
	if *pod.TerminationGracePeriodSeconds < serving+int64(rest.Seconds()) {
		t.Errorf("the pod is killed after %d s", *pod.TerminationGracePeriodSeconds)
	}
}

func TestExampleHelmSidecar(t *testing.T) {
	parent, err := loader.Load(filepath.Join(examples, "helm-sidecar"))
	if err != nil {
		t.Fatal(err)
	}
	child, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	wanted := parent.Metadata.Dependencies[0]
	if wanted.Name != child.Name() || wanted.Version != child.Metadata.Version {
		t.Errorf("depends on %s %s, there is %s %s", wanted.Name, wanted.Version, child.Name(), child.Metadata.Version)
	}
	parent.AddDependency(child) // what `helm dependency build` does
	manifests, notes, err := renderChart(parent, map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := decode(manifests)
	if err != nil {
		t.Fatal(err)
	}
	config, _ := configOf(t, all, "chat-whisp-bff")
	t.Run("configuration", func(t *testing.T) { validate(t, config, "/run/secrets/whisp-bff/") })
	deployment := one[*appsv1.Deployment](t, all, "Deployment/chat")
	checkSidecar(t, deployment, config)
	checkServices(t, all)
	if deployment.Spec.Template.Annotations["checksum/whisp-bff-config"] == "" {
		t.Error("a changed configuration is no rollout")
	}
	if strings.Contains(notes, "%!") {
		t.Error(notes)
	}
}

func TestExampleNginx(t *testing.T) {
	validate(t, readExample(t, "nginx/config.yaml"), "/run/secrets/")
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Skip("nginx is not installed: ./scripts/setup-tests installs it")
		}
	}
	dir := t.TempDir()
	certificate(t, dir)
	config := readExample(t, "nginx/nginx.conf")
	config = strings.NewReplacer(
		"/etc/nginx/tls/app.example.com", filepath.Join(dir, "tls"),
		"/var/log/nginx/access.log", filepath.Join(dir, "access.log"),
		"listen 80;", "listen 127.0.0.1:"+freePort(t)+";",
		"listen 443 ssl", "listen 127.0.0.1:"+freePort(t)+" ssl",
	).Replace(config)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte("pid "+filepath.Join(dir, "pid")+";\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(nginx, "-t", "-p", dir, "-e", "stderr", "-c", path).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("syntax is ok")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// freePort is one that nobody listens on at the moment; nginx -t binds it.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// certificate writes tls.pem and tls.key, which nginx -t reads.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"app.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"tls.pem": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

var markdownLink = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)

// TestLinksLeadSomewhere: in the pages of deploy/ and those written for it.
func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(examples, "*/README.md"))
	if err != nil || len(pages) < 4 {
		t.Fatal(pages, err)
	}
	pages = append(pages, filepath.Join(chartDir, "README.md"), filepath.Join(repository, "docs/kubernetes.md"),
		filepath.Join(repository, "docs/runbook.md"), filepath.Join(repository, "docs/metrics.md"))
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range markdownLink.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), found[1])); err != nil {
				t.Errorf("%s links to %s", page, found[1])
			}
		}
	}
}
