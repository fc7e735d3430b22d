package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/keyset"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// method is a signature algorithm together with the keys it may be used with:
// golang-jwt does not hold ES256 to P-256.
type method struct {
	jwt.SigningMethod
	fits func(key any) bool
}

// methods by alg (RFC 7518 section 3.1, RFC 8037 section 3.1). "none" is not
// among them.
var methods = map[string]method{
	"RS256": {jwt.SigningMethodRS256, isRSA}, "RS384": {jwt.SigningMethodRS384, isRSA}, "RS512": {jwt.SigningMethodRS512, isRSA},
	"PS256": {jwt.SigningMethodPS256, isRSA}, "PS384": {jwt.SigningMethodPS384, isRSA}, "PS512": {jwt.SigningMethodPS512, isRSA},
	"ES256": {jwt.SigningMethodES256, onCurve(elliptic.P256())},
	"ES384": {jwt.SigningMethodES384, onCurve(elliptic.P384())},
	"ES512": {jwt.SigningMethodES512, onCurve(elliptic.P521())},
	"EdDSA": {jwt.SigningMethodEdDSA, isEd25519},
	"HS256": {jwt.SigningMethodHS256, isSecret}, "HS384": {jwt.SigningMethodHS384, isSecret}, "HS512": {jwt.SigningMethodHS512, isSecret},
}

func isRSA(key any) bool     { _, ok := key.(*rsa.PublicKey); return ok }
func isEd25519(key any) bool { _, ok := key.(ed25519.PublicKey); return ok }
func isSecret(key any) bool  { _, ok := key.([]byte); return ok }

func onCurve(curve elliptic.Curve) func(key any) bool {
	return func(key any) bool {
		public, ok := key.(*ecdsa.PublicKey)
		return ok && public.Curve == curve
	}
}

// fixedKeys are those of the configuration. A kid has nothing to choose from:
// PEM and secrets have no names.
type fixedKeys []any

// Verify implements keySource.
func (k fixedKeys) Verify(_ context.Context, _, _ string, check func(key any) bool) error {
	verified := false
	for _, key := range k { // all of them, so that time does not tell which it was
		verified = check(key) || verified
	}
	if !verified {
		return keyset.ErrNoKey
	}
	return nil
}

// trust makes what is needed to verify tokens of one issuer.
func (b *Bearer) trust(cfg BearerConfig, deps Deps) (*trusted, error) {
	t := &trusted{cfg: cfg, types: foldTypes(cfg.Types), clock: deps.Clock}
	switch {
	case len(cfg.HMACSecrets) > 0:
		var keys fixedKeys
		for i, shared := range cfg.HMACSecrets {
			if shared.Text().Empty() {
				return nil, fmt.Errorf("%s is empty", element("hmac_secrets", i))
			}
			keys = append(keys, []byte(shared.Text().Reveal()))
		}
		t.keys = keys
		return t, nil
	case len(cfg.PublicKeys)+len(cfg.PublicKeyPEMs) > 0:
		keys, err := readPublicKeys(cfg)
		t.keys = keys
		return t, err
	}
	client, err := newProviderClient(deps.Transport, cfg.CAFile)
	if err != nil {
		return nil, err
	}
	policy := keyset.Policy{
		Pause: cfg.KeyInterval.D(), RetryPause: keyRetryPause,
		Refresh: cfg.KeyRefresh.D(), Stale: cfg.KeyStale.D(), Timeout: cfg.Timeout.D(),
	}
	if cfg.Preset == presetALB {
		t.alb = newALBKeySource(cfg, client, deps, policy, b.log)
		t.keys = t.alb
		b.close = append(b.close, t.alb.Close, client.CloseIdleConnections)
		return t, nil
	}
	set := keyset.New(policy, deps.Clock, b.log.watch(cfg.Issuer, func(ctx context.Context) ([]keyset.Key, error) {
		return fetchKeys(ctx, client, cfg)
	}))
	t.keys = set
	b.close = append(b.close, set.Close, client.CloseIdleConnections)
	return t, nil
}

func readPublicKeys(cfg BearerConfig) (fixedKeys, error) {
	documents := make([][]byte, 0, len(cfg.PublicKeyPEMs)+len(cfg.PublicKeys))
	for _, text := range cfg.PublicKeyPEMs {
		documents = append(documents, []byte(text))
	}
	for _, name := range cfg.PublicKeys {
		document, err := os.ReadFile(name) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("read public_key_files: %w", err)
		}
		documents = append(documents, document)
	}
	var keys fixedKeys
	for _, document := range documents {
		found, err := keyset.ParsePEM(document)
		if err != nil {
			return nil, fmt.Errorf("public keys: %w", err)
		}
		for _, key := range found {
			keys = append(keys, key.Public)
		}
	}
	return keys, nil
}

// fetchKeys reads the issuer's key set, whose address its metadata tells unless
// it is configured. The metadata is read anew every time: key sets move.
func fetchKeys(ctx context.Context, client *http.Client, cfg BearerConfig) ([]keyset.Key, error) {
	address := cfg.JWKSURL.String()
	if cfg.JWKSURL.Empty() {
		var err error
		if address, err = discoverKeys(ctx, client, cfg.Issuer); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
	}
	document, err := get(ctx, client, address, keyset.MaxDocument)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return keyset.Parse(document)
}

// discoverKeys reads jwks_uri from the issuer's metadata (OpenID Connect
// Discovery 1.0 section 4). Its issuer must be ours to the letter.
func discoverKeys(ctx context.Context, client *http.Client, issuer string) (string, error) {
	document, err := get(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", maxMetadata)
	if err != nil {
		return "", err
	}
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(document, &metadata); err != nil {
		return "", errors.New("metadata is not the JSON it should be")
	}
	if metadata.Issuer != issuer {
		return "", errors.New("metadata is of another issuer than the one configured")
	}
	if !usableEndpoint(metadata.JWKSURI, issuer) {
		return "", errors.New("metadata has no jwks_uri that is an https URL")
	}
	return metadata.JWKSURI, nil
}

// usableEndpoint wants an absolute https URL without user name and fragment;
// plain http only where the issuer itself has it, and only on loopback.
func usableEndpoint(address, issuer string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && strings.HasPrefix(issuer, "http:") && setting.URL{URL: *u}.Loopback()
}
