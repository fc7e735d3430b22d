package main

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// keyFileInterval is how often the secret files are looked at. Watching for
// events would miss Kubernetes' symlink swaps on some volumes; contents never
// lie.
const keyFileInterval = 5 * time.Second

// keyFiles takes new API keys into use when the files they stand in change,
// without a restart.
type keyFiles struct {
	// files are all secret files of the configuration that is in use.
	files []string
	// load reads the configuration anew, with everything it names. One mistake
	// anywhere, and the keys in use stay.
	load func() (*config.File, error)
	use  func([]secret.Text) error
	log  *slog.Logger
	seen [sha256.Size]byte
}

func newKeyFiles(cfg *config.File, load func() (*config.File, error), use func([]secret.Text) error, log *slog.Logger) *keyFiles {
	k := &keyFiles{files: cfg.SecretFiles(), load: load, use: use, log: log}
	k.seen = k.contents()
	return k
}

// watch looks at the files until ctx ends.
func (k *keyFiles) watch(ctx context.Context) {
	if len(k.files) == 0 {
		return
	}
	ticker := time.NewTicker(keyFileInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.look(ctx)
		}
	}
}

// look takes a change into use. What was refused is refused once, not every five
// seconds: the next try comes with the next change.
func (k *keyFiles) look(ctx context.Context) {
	now := k.contents()
	if now == k.seen {
		return
	}
	k.seen = now
	cfg, err := k.load()
	if err != nil {
		k.log.ErrorContext(ctx, "a secret file changed, but the configuration is not valid with it; what was in use stays", "error", err.Error())
		return
	}
	keys := make([]secret.Text, len(cfg.Whisp.APIKeys))
	for i, key := range cfg.Whisp.APIKeys {
		keys[i] = key.Text()
	}
	if err := k.use(keys); err != nil {
		k.log.ErrorContext(ctx, "new API keys not taken into use; the old ones stay", "error", err)
		return
	}
	k.log.InfoContext(ctx, "API keys read again", "keys", len(keys))
}

// contents is a hash over all files; a file that cannot be read is a content of
// its own.
func (k *keyFiles) contents() [sha256.Size]byte {
	all := sha256.New()
	for _, name := range k.files {
		text, err := os.ReadFile(name)
		one := sha256.Sum256(text)
		if err != nil {
			one = sha256.Sum256([]byte("unreadable"))
		}
		all.Write(one[:])
	}
	return [sha256.Size]byte(all.Sum(nil))
}
