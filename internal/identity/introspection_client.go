package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxIntrospection bounds an answer, in bytes.
	maxIntrospection = 256 << 10
	// assertionLife is how long a client assertion is good.
	assertionLife = 60 * time.Second
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// introspectionClient asks an introspection endpoint (RFC 7662 section 2).
type introspectionClient struct {
	cfg    IntrospectionConfig
	client *http.Client
	clock  func() time.Time
	rand   io.Reader
	key    clientKey // only for private_key_jwt
}

// clientKey signs client assertions.
type clientKey struct {
	private any
	method  jwt.SigningMethod
}

// readClientKey reads the private key, and finds the algorithm it is for. Its
// error says what to write instead and quotes nothing of the key.
func readClientKey(cfg IntrospectionConfig) (clientKey, error) {
	block, _ := pem.Decode([]byte(cfg.PrivateKey.Text().Reveal()))
	if block == nil {
		return clientKey{}, errors.New("write PEM, beginning with -----BEGIN PRIVATE KEY-----")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if private, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			if private, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
				return clientKey{}, errors.New("write an RSA, EC or Ed25519 key as PKCS #8 without a passphrase")
			}
		}
	}
	fallback := ""
	var public any
	switch key := private.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < 2048 {
			return clientKey{}, errors.New("use an RSA key of at least 2048 bits")
		}
		fallback, public = "RS256", key.Public()
	case *ecdsa.PrivateKey:
		fallback, public = map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Curve.Params().BitSize], key.Public()
	case ed25519.PrivateKey:
		fallback, public = "EdDSA", key.Public()
	}
	if cfg.Algorithm != "" {
		fallback = cfg.Algorithm
	}
	chosen, ok := methods[fallback]
	if !ok || !chosen.fits(public) {
		return clientKey{}, errors.New("use a key that algorithm goes with")
	}
	return clientKey{private, chosen.SigningMethod}, nil
}

// ask returns the answer about a token. Every error means that nothing is known
// about the token; it quotes neither the token nor the answer.
func (c *introspectionClient) ask(ctx context.Context, token string) (map[string]json.RawMessage, error) {
	request, err := c.request(ctx, token)
	if err != nil {
		return nil, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end or given up
	switch kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); {
	case response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("endpoint refuses our client_id or its credential: %w", &statusError{response.StatusCode})
	case response.StatusCode != http.StatusOK:
		return nil, &statusError{response.StatusCode}
	case kind == "application/token-introspection+jwt":
		return nil, errors.New("answer is a signed JWT (RFC 9701), which is not supported: switch it off for this client")
	case kind != "application/json" && (!strings.HasPrefix(kind, "application/") || !strings.HasSuffix(kind, "+json")):
		return nil, errors.New("answer is not JSON")
	}
	body, err := readBounded(response.Body, maxIntrospection)
	if err != nil {
		return nil, err
	}
	answer, err := flatObject(body)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if active := string(answer["active"]); active != "true" && active != "false" {
		return nil, errors.New("answer has no active that is true or false")
	}
	return answer, nil
}

func (c *introspectionClient) request(ctx context.Context, token string) (*http.Request, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	switch c.cfg.ClientAuth {
	case authPost:
		form.Set("client_id", c.cfg.ClientID)
		form.Set("client_secret", c.cfg.ClientSecret.Text().Reveal())
	case authPrivateKey:
		assertion, err := c.assertion()
		if err != nil {
			return nil, err
		}
		form.Set("client_id", c.cfg.ClientID)
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", assertion)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("url cannot be used")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	// Not sent; it lets net/http repeat the question on a new connection if an
	// idle one turns out to be closed.
	request.Header["Idempotency-Key"] = nil
	if c.cfg.ClientAuth == authBasic { // RFC 6749 section 2.3.1
		request.SetBasicAuth(url.QueryEscape(c.cfg.ClientID), url.QueryEscape(c.cfg.ClientSecret.Text().Reveal()))
	}
	return request, nil
}

// assertion is a client assertion for one use (RFC 7523 section 3).
func (c *introspectionClient) assertion() (string, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(c.rand, id); err != nil {
		return "", fmt.Errorf("client assertion: %w", err)
	}
	now, audience := c.clock(), c.cfg.AssertionAud
	if audience == "" {
		audience = c.cfg.URL.String()
	}
	assertion := jwt.NewWithClaims(c.key.method, jwt.MapClaims{
		"iss": c.cfg.ClientID, "sub": c.cfg.ClientID, "aud": audience,
		"jti": base64.RawURLEncoding.EncodeToString(id),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if c.cfg.KeyID != "" {
		assertion.Header["kid"] = c.cfg.KeyID
	}
	signed, err := assertion.SignedString(c.key.private)
	if err != nil {
		return "", errors.New("client assertion cannot be signed")
	}
	return signed, nil
}
