package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Renewals make one call of the refreshes that a browser's tabs ask for at the
// same time, on whichever replica: the vendor's SDK refreshes before every
// reconnect of a socket, and sockets that were closed together come back together.
type Renewals interface {
	// Renew returns a JWT for the refresh token of a session: one that is newer than
	// the stale one and has life left, or what ask gets. Of several callers one asks. An
	// error that wraps [ErrNotShared] is no verdict: the caller asks by itself. Any
	// other is that of ask, [ErrUnauthorized] if the refresh token is dead.
	Renew(ctx context.Context, session string, stale Stale, ask AskRenewal) (secret.Text, error)
}

// Stale is what a browser shows to get a new JWT. Expires is the JWT's own exp,
// unverified; zero if it says none.
type Stale struct {
	RefreshToken, JWT secret.Text
	Expires           time.Time
}

// AskRenewal asks Whisp once for a new JWT.
type AskRenewal func(ctx context.Context) (jwt secret.Text, expires time.Time, err error)

// ErrNotShared: this refresh cannot be answered together with others.
var ErrNotShared = errors.New("upstream: refresh not shared")

// errVerdict: Whisp answered something else than a JWT.
var errVerdict = errors.New("whisp gave no new JWT")

// renewal is one refresh of a browser's on its way.
type renewal struct {
	*WhispProxy
	session string
	stale   Stale
	call    call
	alone   bool // there is nothing to share
}

func (p *WhispProxy) newRenewal(r *http.Request, session string, body []byte) *renewal {
	n := &renewal{
		WhispProxy: p, session: session,
		call: call{via: "proxy", operation: OperationRefresh, build: p.refreshRequest(r, body)},
	}
	if values := r.Header["Authorization"]; len(values) == 1 {
		n.stale.RefreshToken = bearer(values[0])
	}
	var sent struct {
		ExpiredJWT string `json:"expiredJwt"`
	}
	if json.Unmarshal(body, &sent) == nil {
		n.stale.JWT = bearer(sent.ExpiredJWT)
		_, n.stale.Expires, _ = readJWT(n.stale.JWT) // zero: as good as expired
	}
	n.alone = p.renewals == nil || n.stale.RefreshToken.Empty() || n.stale.JWT.Empty()
	return n
}

// attempt asks once: together with others if that is possible, else alone. The
// answer of Whisp is whole only for the one who asked; the others get the JWT.
func (n *renewal) attempt(ctx context.Context) (answer, *failure) {
	if n.alone {
		return n.ask(ctx, n.call)
	}
	var asked bool
	var a answer
	var f *failure
	jwt, err := n.renewals.Renew(ctx, n.session, n.stale, func(ctx context.Context) (secret.Text, time.Time, error) {
		asked = true
		ctx, cancel := context.WithTimeout(ctx, n.limit)
		defer cancel()
		if a, f = n.ask(ctx, n.call); f != nil {
			return secret.Text{}, time.Time{}, f.reason()
		}
		return renewedJWT(a)
	})
	switch {
	case ctx.Err() != nil: // ask may go on for the others: a and f are not ours to read
		return answer{}, &failure{err: problem.WhispTimeout().Because(ctx.Err()), late: true, connected: true}
	case asked:
		return a, f
	case err == nil:
		return answer{status: http.StatusOK, header: http.Header{"Authorization": {"Bearer " + jwt.Reveal()}}}, nil
	}
	if shared, ok := errors.AsType[*problem.Problem](err); ok && !errors.Is(err, ErrNotShared) {
		if f := (&failure{err: shared, status: shared.Status, connected: true}); f.transient() {
			return answer{}, f // the same for all of them: wait, and ask together again
		}
	}
	n.alone = true
	return n.ask(ctx, n.call)
}

// reason is a failure as an error.
func (f *failure) reason() error {
	if f.cancelled != nil {
		return errors.Join(ErrNotShared, f.cancelled)
	}
	return f.err
}

func renewedJWT(a answer) (secret.Text, time.Time, error) {
	if a.status == http.StatusUnauthorized {
		return secret.Text{}, time.Time{}, ErrUnauthorized
	}
	jwt := bearer(a.header.Get("Authorization"))
	if a.status != http.StatusOK || jwt.Empty() {
		return secret.Text{}, time.Time{}, errVerdict
	}
	_, expires, err := readJWT(jwt)
	if err != nil {
		return secret.Text{}, time.Time{}, errVerdict
	}
	return jwt, expires, nil
}
