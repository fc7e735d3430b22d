package deploy

import (
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

const repository = "../.."

// TestMain builds the binary once, by the Dockerfile's own line, and removes it.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "whisp-bff-deploy-")
	if err != nil {
		panic(err)
	}
	binaryDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// binaryDir is where buildOnce puts the binary; TestMain owns it.
var binaryDir string

var buildOnce = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "whisp-bff")
	return path, buildLine(runtime.GOARCH, path)
})

// binary is whisp-bff, as the image would have it.
func binary(t *testing.T) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// instruction is one of a Dockerfile's, continuation lines joined.
type instruction struct{ name, rest string }

// dockerfile reads the subset of the syntax that ours uses: no heredocs, no
// escape directive.
func dockerfile(path string) ([]instruction, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var found []instruction
	line := ""
	for raw := range strings.Lines(string(text)) {
		raw = strings.TrimSpace(raw)
		if strings.HasPrefix(raw, "#") || raw == "" {
			continue
		}
		more, ok := strings.CutSuffix(raw, `\`)
		line += more
		if ok {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		found = append(found, instruction{name, strings.TrimSpace(rest)})
		line = ""
	}
	return found, nil
}

var runFlag = regexp.MustCompile(`^--mount=\S+\s+`)

// buildLine runs the RUN of the Dockerfile that builds, for linux and arch.
func buildLine(arch, out string) error {
	instructions, err := dockerfile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		return err
	}
	at := slices.IndexFunc(instructions, func(i instruction) bool { return i.name == "RUN" && strings.Contains(i.rest, "go build") })
	if at < 0 {
		return os.ErrNotExist
	}
	line := instructions[at].rest
	for runFlag.MatchString(line) {
		line = runFlag.ReplaceAllString(line, "")
	}
	line = strings.ReplaceAll(line, "/out/whisp-bff", out)
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+arch, "VERSION=v0.0.0-test",
		"GOFLAGS=-buildvcs=false "+os.Getenv("GOFLAGS")) // an image is built without .git
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

func TestDockerfileBuildsAStaticBinary(t *testing.T) {
	checkStatic(t, binary(t))
	out, err := exec.Command(binary(t), "version").Output()
	if err != nil || !strings.Contains(string(out), "v0.0.0-test") {
		t.Errorf("version answers %q, %v: the build argument is lost", out, err)
	}
}

// TestDockerfileBuildsForArm64 costs a second compilation of everything, so it
// runs only where somebody asks for it, as the release does.
func TestDockerfileBuildsForArm64(t *testing.T) {
	if os.Getenv("WHISP_BFF_TEST_ARM64") == "" {
		t.Skip("set WHISP_BFF_TEST_ARM64=1 to cross-compile")
	}
	out := filepath.Join(t.TempDir(), "whisp-bff")
	if err := buildLine("arm64", out); err != nil {
		t.Fatal(err)
	}
	checkStatic(t, out)
}

// checkStatic wants an executable that asks for no loader and no library.
func checkStatic(t *testing.T, path string) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s: a static image has no %s", path, p.Type)
		}
	}
	if libraries, err := file.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("needs %v", libraries)
	}
	if file.Section(".debug_info") != nil || file.Section(".symtab") != nil {
		t.Error("is not stripped")
	}
}

// TestDockerfileImage reads the last stage: who runs what, and what it copies.
func TestDockerfileImage(t *testing.T) {
	instructions, err := dockerfile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stage := map[string][]string{}
	for _, i := range instructions {
		if i.name == "FROM" {
			clear(stage)
		}
		stage[i.name] = append(stage[i.name], i.rest)
	}
	for name, want := range map[string][]string{
		"FROM": {"${BASE}"}, "USER": {"65532:65532"}, "COPY": {"--from=build /out/whisp-bff /whisp-bff"},
		"ENTRYPOINT": {`["/whisp-bff"]`}, "CMD": {`["serve", "--config", "/etc/whisp-bff/config.yaml"]`}, "RUN": nil,
	} {
		if got := stage[name]; !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	health := strings.Join(stage["HEALTHCHECK"], "")
	_, command, _ := strings.Cut(health, "CMD ")
	var args []string
	if err := json.Unmarshal([]byte(command), &args); err != nil || !slices.Equal(args, []string{"/whisp-bff", "healthcheck"}) {
		t.Errorf("HEALTHCHECK %s", health)
	}
	for _, label := range []string{"title", "source", "version", "revision"} {
		if !strings.Contains(stage["LABEL"][0], "org.opencontainers.image."+label+"=") {
			t.Errorf("label %s is missing", label)
		}
	}
	if got := instructions[len(instructions)-1].name; got != "CMD" {
		t.Errorf("the file ends with %s", got)
	}
}

// TestDockerfileStartsAsMakeDoes: two ways to build are one.
func TestDockerfileStartsAsMakeDoes(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct{ make, image string }{
		{"CGO_ENABLED=0 $(GO) build -tags $(GOTAGS) -trimpath", "go build -tags nomsgpack -trimpath"},
		{"GOTAGS  := nomsgpack", "-tags nomsgpack"},
		{"LDFLAGS := -s -w -X main.version=$(VERSION)", "-s -w -X main.version=$VERSION"},
	} {
		if !strings.Contains(string(makefile), part.make) || !strings.Contains(string(image), part.image) {
			t.Errorf("Makefile has %q: %v, Dockerfile has %q: %v", part.make, strings.Contains(string(makefile), part.make),
				part.image, strings.Contains(string(image), part.image))
		}
	}
}

// TestDockerignoreKeepsSourcesOnly: what git does not know, and secrets that lie
// around, cannot reach a builder.
func TestDockerignoreKeepsSourcesOnly(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	first := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if first == "" {
			first = line
		}
		if name, ok := strings.CutPrefix(line, "!"); ok {
			kept = append(kept, name)
		}
	}
	if first != "*" || !slices.Equal(kept, []string{"go.mod", "go.sum", "cmd", "internal"}) {
		t.Errorf("first is %q, kept are %q", first, kept)
	}
	instructions, err := dockerfile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range instructions {
		if i.name != "COPY" || strings.HasPrefix(i.rest, "--from") {
			continue
		}
		sources := strings.Fields(i.rest)
		for _, source := range sources[:len(sources)-1] {
			if !slices.Contains(kept, source) {
				t.Errorf("COPY %s: .dockerignore leaves it out", source)
			}
		}
	}
}
