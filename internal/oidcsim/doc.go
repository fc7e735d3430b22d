// Package oidcsim is a small, honest OpenID Provider for tests and demos.
//
// Honest means: it does what a certified provider does on the paths it has —
// discovery, JWKS, authorization code flow with PKCE, userinfo, refresh,
// RP-initiated and back-channel logout — and it refuses what such a provider refuses (unknown
// redirect URIs, a code used twice, PKCE "plain", a missing state). Faults are
// switched on explicitly ([Provider.SetFaults]), so that a test of a relying
// party can say in one line what the provider does wrong.
//
//	provider, err := oidcsim.New(oidcsim.Config{
//		Clients: []oidcsim.Client{{ID: "web", RedirectURIs: []string{app + "/auth/callback"}}},
//		Clock:   time.Now, Rand: rand.Reader,
//	})
//	server := httptest.NewServer(provider)
//	provider.SetIssuer(server.URL)
//
// People log in by one click on their name; there are no passwords. A request
// whose login_hint names a person skips the page when Config.TrustLoginHint is
// set, so a test needs no form at all.
//
// What it implements: OpenID Connect Core 1.0 (code flow), Discovery 1.0,
// RP-Initiated Logout 1.0, Back-Channel Logout 1.0, RFC 6749 sections 4.1 and 6, RFC 7636 (S256 only),
// RFC 9207 (iss in the answer). What it does not: consent, registration,
// request objects, encryption, introspection, persistence.
//
// Everybody who reaches it can be anybody, so it must never be reachable by
// anybody but developers: bind it to a loopback address.
package oidcsim
