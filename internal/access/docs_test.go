package access_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/whisp-bff/whisp-bff/internal/config"
)

// The examples of the documentation, loaded as whisp-bff itself loads them.
func TestDocumentedAccess(t *testing.T) {
	page, err := os.ReadFile("../../docs/identity/README.md")
	if err != nil {
		t.Fatal(err)
	}
	const around = `
public_url: https://app.example.com
app: {url: "http://127.0.0.1:3000"}
login: {issuer: "https://login.example.com/realms/acme", client_id: web, client_secret: {file: /run/client}}
whisp: {url: "https://acme.api.whispchat.com", api_keys: [{file: /run/key}]}
account: {master_secrets: [{file: /run/master}]}
`
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, block := range blocks {
		files := fstest.MapFS{"etc/config.yaml": {Data: append(block[1], around...)}}
		for _, name := range []string{"client", "key", "master"} {
			files["run/"+name] = &fstest.MapFile{Data: []byte(strings.Repeat(name[:1], 64)), Mode: 0o400}
		}
		none := func(string) (string, bool) { return "", false }
		if _, err := config.Load("/etc/config.yaml", none, func(name string) (fs.File, error) { return files.Open(name[1:]) }); err != nil {
			t.Errorf("%v in\n%s", err, block[1])
		}
	}
}
