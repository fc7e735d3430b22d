package login

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/whisp-bff/whisp-bff/internal/keyset"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// A key id we do not know asks for the key set again, but not more often
// than this; after a failure a little sooner.
const (
	keysPause     = 5 * time.Second
	keysPauseFail = time.Second
)

// keySet is the provider's JWKS. It implements go-oidc's KeySet in place of that
// library's own, which fetches without a pause, never forgets a withdrawn key, and
// hides from its caller whether a signature is wrong or the keys are missing.
type keySet struct {
	*keyset.Set
	algorithms []jose.SignatureAlgorithm
}

func newKeySet(url string, client *http.Client, clock func() time.Time, cfg Config) *keySet {
	policy := keyset.Policy{Pause: keysPause, RetryPause: keysPauseFail, Timeout: cfg.Timeout.D()}
	set := &keySet{Set: keyset.New(policy, clock, func(ctx context.Context) ([]keyset.Key, error) {
		var document json.RawMessage
		if err := getJSON(ctx, client, url, secret.Text{}, &document); err != nil {
			return nil, err
		}
		return keyset.Parse(document)
	})}
	for _, algorithm := range cfg.SigningAlgorithms {
		set.algorithms = append(set.algorithms, jose.SignatureAlgorithm(algorithm))
	}
	return set
}

// VerifySignature implements go-oidc's KeySet: it returns the payload of a JWT
// signed by one of the keys. Headers that name keys (jku, jwk, x5u) are not
// looked at. The error wraps [keyset.ErrUnavailable] if nothing is known about
// the signature.
func (s *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, s.algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errors.New("not a token signed with an allowed algorithm")
	}
	header := jws.Signatures[0].Header
	var payload []byte
	err = s.Verify(ctx, header.KeyID, header.Algorithm, func(key any) bool {
		var err error
		payload, err = jws.Verify(key)
		return err == nil
	})
	return payload, err
}
