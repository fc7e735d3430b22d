package identity

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// ForwardedConfig is the section "identity.forwarded".
type ForwardedConfig struct {
	TrustedPeers       []string          `yaml:"trusted_peers" doc:"Addresses or CIDR ranges of the auth proxies that may say who the user is, compared with the address the connection comes from, never with X-Forwarded-For; required."`
	SecretHeader       string            `yaml:"secret_header" doc:"Header in which the auth proxy proves itself with one of secrets."`
	Secrets            []setting.Secret  `yaml:"secrets" doc:"Secrets of at least 32 bytes shared with the auth proxy, newest first; this or client_certificates is required."`
	ClientCertificates []string          `yaml:"client_certificates" doc:"DNS names or URIs (such as spiffe://acme/proxy) in the subjectAltName of client certificates that prove the auth proxy instead of a secret; needs a listener of whisp-bff's own that verifies client certificates."`
	Issuer             string            `yaml:"issuer" doc:"The issuer of everybody who comes this way, part of their account's key for ever; where subject_header holds the provider's sub, the provider's issuer exactly as in its tokens; required."`
	SubjectHeader      string            `yaml:"subject_header" doc:"Header with the user's unique and never reassigned id."`
	Claims             map[string]string `yaml:"claims" doc:"Claims and the headers that hold them."`
	ListClaims         map[string]string `yaml:"list_claims" doc:"Claims that are lists, and the headers that hold them, separated by commas."`
	PayloadHeader      string            `yaml:"payload_header" doc:"Header with the payload of a JWT the proxy has verified, as base64 JSON (Envoy's forward_payload_header); if set, sub and claims come from it, and subject_header, claims and list_claims are not read."`
}

// DefaultForwardedConfig has the header names of oauth2-proxy. Peers, secrets
// and issuer have no default.
func DefaultForwardedConfig() ForwardedConfig {
	return ForwardedConfig{ //nolint:gosec // names of headers
		SecretHeader:  "X-Forwarded-Secret",
		SubjectHeader: "X-Forwarded-User",
		Claims:        map[string]string{"email": "X-Forwarded-Email", "preferred_username": "X-Forwarded-Preferred-Username"},
		ListClaims:    map[string]string{"groups": "X-Forwarded-Groups"},
	}
}

// minPeerSecret is in bytes. The secret is all that keeps a request forged in
// the proxy's own network from being anybody.
const minPeerSecret = 32

// Validate reports everything wrong with c. It cannot tell whether any listener
// verifies client certificates: whoever knows the listeners must refuse
// client_certificates if none does.
func (c ForwardedConfig) Validate() error {
	var p setting.Problems
	c.validatePeers(&p)
	if len(c.Secrets) == 0 && len(c.ClientCertificates) == 0 {
		p.Add("secrets", "is required", "list a secret that the auth proxy sends in "+c.SecretHeader+", such as the output of: openssl rand -hex 32")
	}
	for i, one := range c.Secrets {
		if len(one.Text().Reveal()) < minPeerSecret {
			p.Addf(fmt.Sprintf("secrets[%d]", i), "is too short", "write at least %d bytes, such as the output of: openssl rand -hex 32", minPeerSecret)
		}
	}
	for i, name := range c.ClientCertificates {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r == '*' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
			p.Add(fmt.Sprintf("client_certificates[%d]", i), "is not a name", "write one exact DNS name or URI of the certificate, without wildcards")
		}
	}
	validateIssuer(&p, c.Issuer)
	c.validateHeaders(&p)
	return p.Err()
}

func (c ForwardedConfig) validatePeers(p *setting.Problems) {
	if len(c.TrustedPeers) == 0 {
		p.Add("trusted_peers", "is required", "list the addresses the auth proxy connects from, like 10.0.3.7 or 10.0.3.0/24")
	}
	for i, text := range c.TrustedPeers {
		path := fmt.Sprintf("trusted_peers[%d]", i)
		prefix, err := parsePeer(text)
		switch {
		case err != nil:
			p.Add(path, "is not an address or CIDR range", "write it like 10.0.3.0/24 or 192.0.2.7")
		case prefix.Bits() == 0:
			p.Add(path, "is the whole internet", "list the addresses the auth proxy connects from")
		}
	}
}

// validateHeaders also keeps names apart: two meanings of one header are a
// mistake in one of them.
func (c ForwardedConfig) validateHeaders(p *setting.Problems) {
	users := map[string]string{}
	check := func(path, name string) {
		if !headerName(name) || reservedHeader(name) {
			p.Add(path, "is not a header for this", "write a name of its own, like X-Forwarded-User")
			return
		}
		folded := foldHeader(name)
		if other, taken := users[folded]; taken {
			p.Add(path, "names the same header as "+other, "give each its own header; case does not matter, and _ and . are read as -")
			return
		}
		users[folded] = path
	}
	check("secret_header", c.SecretHeader)
	check("subject_header", c.SubjectHeader)
	if c.PayloadHeader != "" {
		check("payload_header", c.PayloadHeader)
	}
	for _, table := range []struct {
		path   string
		claims map[string]string
	}{{"claims", c.Claims}, {"list_claims", c.ListClaims}} {
		for _, claim := range slices.Sorted(maps.Keys(table.claims)) {
			path := table.path + "." + claim
			if reservedClaim(claim) {
				p.Add(path, "is set by whisp-bff", "take it out: issuer and subject_header say what it is")
				continue
			}
			check(path, table.claims[claim])
		}
	}
	for _, claim := range slices.Sorted(maps.Keys(c.Claims)) {
		if _, twice := c.ListClaims[claim]; twice {
			p.Add("list_claims."+claim, "is also in claims", "leave it in one of the two")
		}
	}
}

// validateIssuer is for the constant issuers of forwarded and app_session.
func validateIssuer(p *setting.Problems, issuer string) {
	switch {
	case issuer == "":
		p.Add("issuer", "is required", "write a name that never changes, like https://app.example.com; accounts belong to issuer and subject together")
	case len(issuer) > maxSubject || !plain(issuer) || strings.TrimSpace(issuer) != issuer:
		p.Addf("issuer", "is not a name", "write up to %d bytes without control characters, like https://app.example.com", maxSubject)
	}
}

// reservedClaim: these come from issuer and subject and nothing else.
func reservedClaim(name string) bool { return name == "" || name == "iss" || name == "sub" }

func parsePeer(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		return prefix.Masked(), err
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(address, address.BitLen()), nil
}

// headerName reports whether name is a token (RFC 9110 section 5.6.2).
func headerName(name string) bool {
	for _, c := range []byte(name) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

// reservedHeader: headers that mean something else on every request, and whose
// removal would break it.
func reservedHeader(name string) bool {
	return slices.Contains([]string{
		"accept", "authorization", "connection", "content-length", "content-type", "cookie", "forwarded", "host", "origin", "referer",
		"te", "trailer", "transfer-encoding", "upgrade", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto",
	}, foldHeader(name))
}

// foldHeader is lower case with "_" and "." read as "-": how CGI, WSGI and many
// frameworks fold names (CVE-2025-64484).
func foldHeader(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '_', r == '.':
			return '-'
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, name)
}
