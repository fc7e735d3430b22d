package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// metadata is what we use of a provider's discovery document (OpenID Connect
// Discovery 1.0 section 3; RP-Initiated Logout 1.0 section 2.1; RFC 9207 section 3).
type metadata struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	UserinfoEndpoint      string   `json:"userinfo_endpoint"`    // "" if there is none
	EndSessionEndpoint    string   `json:"end_session_endpoint"` // "" if there is none
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	AnswersWithIssuer     bool     `json:"authorization_response_iss_parameter_supported"`
}

// fetchMetadata reads the discovery document. Its issuer must be ours to the
// letter: that is what makes the endpoints trustworthy.
func fetchMetadata(ctx context.Context, client *http.Client, issuer setting.URL) (metadata, error) {
	var m metadata
	address := strings.TrimSuffix(issuer.String(), "/") + "/.well-known/openid-configuration"
	if err := getJSON(ctx, client, address, secret.Text{}, &m); err != nil {
		return metadata{}, fmt.Errorf("fetch metadata: %w", err)
	}
	if m.Issuer != issuer.String() {
		return metadata{}, fmt.Errorf("metadata is of issuer %q, configured is %q", cleaned(m.Issuer), issuer.String())
	}
	var errs []error
	for _, endpoint := range []struct{ name, address string }{
		{"authorization_endpoint", m.AuthorizationEndpoint}, {"token_endpoint", m.TokenEndpoint}, {"jwks_uri", m.JWKSURI},
	} {
		if !usableEndpoint(endpoint.address, issuer) {
			errs = append(errs, fmt.Errorf("metadata: %s is missing or not an https URL", endpoint.name))
		}
	}
	// What is optional and unusable is as if it were not there.
	for _, optional := range []*string{&m.UserinfoEndpoint, &m.EndSessionEndpoint} {
		if !usableEndpoint(*optional, issuer) {
			*optional = ""
		}
	}
	return m, errors.Join(errs...)
}

// usableEndpoint wants an absolute https URL without user name and fragment;
// plain http only where the issuer itself has it, and only on loopback.
func usableEndpoint(address string, issuer setting.URL) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && issuer.Scheme == "http" && setting.URL{URL: *u}.Loopback()
}
