// Package login is an OpenID Connect relying party: it sends a browser to the
// provider and turns what comes back into an identity.
//
// It speaks the authorization code flow (OpenID Connect Core 1.0 section 3.1)
// with PKCE S256 (RFC 7636), state, nonce and the iss check of RFC 9207, and
// RP-Initiated Logout 1.0 and Back-Channel Logout 1.0. It knows nothing of
// sessions, of gin or of our routes: a caller hands in a query and cookies, and
// gets back a URL or an identity, and cookies to set.
//
//	start, err := party.Begin(ctx, "/inbox?folder=2", r.Cookies())
//	// set start.SetCookies, redirect to start.URL; later, at /auth/callback:
//	finished, err := party.Finish(ctx, r.URL.Query(), r.Cookies())
//	// set finished.SetCookies also if err != nil, then go to finished.ReturnTo
//
// # A login in progress costs us no memory
//
// Begin stores nothing. It draws 32 random bytes b and splits the login in two:
//
//	cookie __Host-whisp-login-<suffix> = b              the browser's half
//	state  = sealed {return_to, issued at, hash(b), suffix}   the URL's half
//	nonce, PKCE verifier = HKDF(state key, b)           recomputed by Finish
//
// Each login has a cookie of its own, so twenty tabs begun at once all finish;
// when Begin sees more than [maxLogins] of them, the oldest go. A state without
// its cookie is worth nothing (login CSRF), and neither is a cookie without its
// state. Finish marks a login as used through [Once] before it sends the code,
// so that a callback works once, on whichever replica.
//
// # What Finish checks, in this order
//
// State opens, is less than ten minutes old, its cookie matches
// (login_unknown); the iss parameter (login_issuer_mismatch); the provider's
// error (login_denied, provider_unavailable, provider_refused_client); used
// once (login_unknown); then the code is redeemed and the ID token verified:
// signature by an allowed algorithm and a key from the provider's key set, iss,
// aud, azp, exp, nbf, iat, nonce, at_hash, auth_time when max_age was asked
// (login_rejected). Userinfo, where fetched, must have the same sub.
//
// Not checked: acr and amr, and whether an e-mail is verified. Claims are the provider's and often
// the person's own words; they are passed on as they are, bounded (see
// [identity.MaxClaims]), with json.Number for numbers. Aggregated and distributed claims
// and JWT-encoded userinfo are not supported.
//
// # The provider may be down
//
// New contacts nobody. [RelyingParty.Run] discovers the provider, with backoff
// until that works, and refreshes metadata and keys; the last good ones stay in
// use. Every conversation with the provider is bounded in time and size, goes
// only to addresses its metadata names, and follows no redirect to another host.
//
// Nothing from a query, a token or a cookie is ever in an error or a log line.
// What a provider says about an error is logged as an attribute, cleaned and cut.
package login
