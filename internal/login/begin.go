package login

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// Start is a login that has begun.
type Start struct {
	// URL at the provider to redirect the browser to.
	URL string
	// SetCookies must go with that redirect.
	SetCookies []*http.Cookie
}

// Begin starts a login that will end at returnTo (see [SafeReturnTo]). cookies are
// those of the request; only ours are looked at. If the provider has not been
// discovered it is tried once, for at most three seconds.
//
// Errors: provider_unavailable, internal.
func (rp *RelyingParty) Begin(ctx context.Context, returnTo string, cookies []*http.Cookie) (Start, error) {
	found, err := rp.discovered(ctx)
	if err != nil {
		return Start{}, err
	}
	start, err := rp.begin(found, SafeReturnTo(returnTo), cookies)
	if err != nil {
		return Start{}, problem.Internal().Because(fmt.Errorf("begin login: %w", err))
	}
	return start, nil
}

func (rp *RelyingParty) begin(found *provider, returnTo string, cookies []*http.Cookie) (Start, error) {
	now := rp.clock()
	half := make([]byte, halfSize)
	if _, err := io.ReadFull(rp.rand, half); err != nil {
		return Start{}, fmt.Errorf("draw login: %w", err)
	}
	suffix, err := newSuffix(rp.rand, now)
	if err != nil {
		return Start{}, err
	}
	sum := sha256.Sum256(half)
	state, err := rp.keys.seal(rp.rand, pending{
		Version: stateVersion, ReturnTo: returnTo, IssuedAt: now.Unix(), Hash: sum[:], Suffix: suffix,
	})
	if err != nil {
		return Start{}, err
	}
	proofs, err := deriveProofs(rp.keys[0], half)
	if err != nil {
		return Start{}, err
	}
	return Start{
		URL:        rp.oauth(found).AuthCodeURL(state, rp.authorizeOptions(proofs)...),
		SetCookies: append(rp.jar.surplus(cookies, now), rp.jar.set(suffix, half)),
	}, nil
}

func (rp *RelyingParty) authorizeOptions(p proofs) []oauth2.AuthCodeOption {
	var options []oauth2.AuthCodeOption
	for name, value := range rp.cfg.ExtraAuthorizeParams {
		options = append(options, oauth2.SetAuthURLParam(name, value))
	}
	if rp.cfg.Prompt != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", rp.cfg.Prompt))
	}
	if rp.cfg.MaxAge > 0 {
		seconds := int64(rp.cfg.MaxAge.D().Seconds())
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.FormatInt(seconds, 10)))
	}
	// PKCE is sent whether or not the metadata mentions S256: a provider that
	// does not know it ignores it, and one that does protects us (RFC 9700 section 2.1.1).
	return append(options, oidc.Nonce(p.nonce.Reveal()), oauth2.S256ChallengeOption(p.verifier.Reveal()))
}
