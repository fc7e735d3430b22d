package identity_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/identity"
)

var yamlBlocks = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// around is the rest of a configuration.
const around = `
public_url: https://app.example.com
app: {url: "http://127.0.0.1:3000"}
whisp: {url: "https://acme.api.whispchat.com", api_keys: [{file: /run/secrets/whisp-api-key}]}
account: {master_secrets: [{file: /run/secrets/whisp-master-secret}]}
`

const signIn = `
login: {issuer: "https://login.example.com/realms/acme", client_id: web, client_secret: {file: /run/secrets/oidc-client-secret}}
`

// TestDocumentedTokens loads every example of the two pages as whisp-bff itself
// does, in a file system where each secret that is named exists.
func TestDocumentedTokens(t *testing.T) {
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(ecKey()))})
	secretFile := regexp.MustCompile(`file: (/[a-z/.-]+)`)
	for page, want := range map[string]int{"bearer.md": 11, "introspection.md": 3} {
		text, err := os.ReadFile("../../docs/identity/" + page)
		if err != nil {
			t.Fatal(err)
		}
		blocks := yamlBlocks.FindAllSubmatch(text, -1)
		if len(blocks) != want {
			t.Errorf("%s has %d examples, want %d", page, len(blocks), want)
		}
		for i, block := range blocks {
			whole := string(block[1]) + around
			if bytes.Contains(block[1], []byte("sources: [session")) {
				whole += signIn
			}
			files := fstest.MapFS{"etc/config.yaml": {Data: []byte(whole)}}
			for j, named := range secretFile.FindAllStringSubmatch(whole, -1) {
				content := []byte(strings.Repeat(string(rune('a'+j)), 64))
				if path.Ext(named[1]) == ".pem" {
					content = key
				}
				files[named[1][1:]] = &fstest.MapFile{Data: content, Mode: 0o400}
			}
			env := func(string) (string, bool) { return strings.Repeat("e", 64), true }
			loaded, err := config.Load("/etc/config.yaml", env, func(name string) (fs.File, error) { return files.Open(name[1:]) })
			if err != nil {
				t.Errorf("%s: %v in\n%s", page, err, whole)
				continue
			}
			if len(loaded.Warnings()) > 0 {
				t.Errorf("%s: %v", page, loaded.Warnings())
			}
			if name := strings.TrimSuffix(page, ".md"); !slices.Contains(loaded.Identity.Sources, name) {
				t.Errorf("%s: example %d does not use %s", page, i, name)
			}
			if slices.Contains(loaded.Identity.Sources, identity.SourceIntrospection) && loaded.Identity.Introspection.CacheFor.D() == 0 {
				t.Errorf("%s: example %d lost the defaults", page, i)
			}
		}
	}
}
