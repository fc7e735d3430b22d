package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/sockproxy"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// selfService keeps links and grants true to what browsers do at Whisp
// themselves.
type selfService struct {
	accounts *broker.Broker
	holders  session.Holders
	logger   *slog.Logger
}

// passed is called when Whisp answered a call of a browser.
func (s selfService) passed(holder, operation string, status int) {
	if status < http.StatusOK || status >= http.StatusMultipleChoices {
		return
	}
	// The browser may be gone before this is done.
	ctx, cancel := context.WithTimeout(context.Background(), selfServicePatience)
	defer cancel()
	var err error
	switch operation {
	case upstream.OperationLogout:
		err = s.accounts.LoggedOut(ctx, holder)
	case upstream.OperationLogoutAll:
		err = s.forIdentity(ctx, holder, s.accounts.LoggedOutEverywhere)
	case upstream.OperationDeleteUser:
		err = s.forIdentity(ctx, holder, func(ctx context.Context, identityKey string) error {
			return s.accounts.Deleted(ctx, holder, identityKey)
		})
	}
	if err != nil {
		s.logger.WarnContext(ctx, "not followed what a browser did to its account", "operation", operation, "error", err)
	}
}

// forIdentity does something for the identity that a holder belongs to.
func (s selfService) forIdentity(ctx context.Context, holder string, do func(ctx context.Context, identityKey string) error) error {
	identityKey, err := s.holders.IdentityKey(ctx, holder)
	if err != nil {
		return err
	}
	return do(ctx, identityKey)
}

// renamed is called when Whisp renamed the account of a browser.
func (s selfService) renamed(holder string, jwt secret.Text) {
	ctx, cancel := context.WithTimeout(context.Background(), selfServicePatience)
	defer cancel()
	if err := s.forIdentity(ctx, holder, func(ctx context.Context, identityKey string) error {
		return s.accounts.Renamed(ctx, identityKey, jwt)
	}); err != nil {
		s.logger.WarnContext(ctx, "not followed what a browser did to its account", "operation", upstream.OperationChangeUsername, "error", err)
	}
}

// refused is called when Whisp refused a JWT that a browser showed.
func (s selfService) refused(holder string, jwt secret.Text) {
	ctx, cancel := context.WithTimeout(context.Background(), selfServicePatience)
	defer cancel()
	if err := s.accounts.Refused(ctx, holder, jwt); err != nil {
		s.logger.WarnContext(ctx, "not noted that Whisp refuses a JWT", "error", err)
	}
}

// selfServicePatience bounds what is done before the browser gets its answer.
const selfServicePatience = 5 * time.Second

// refresher tells sessions in their own words that a sign-in ended. It asks
// whichever relying party is in use.
type refresher struct {
	provider *atomic.Pointer[login.RelyingParty]
}

func (r refresher) Refresh(ctx context.Context, tokens identity.ProviderTokens, subject string) (identity.ProviderTokens, error) {
	renewed, err := r.provider.Load().Refresh(ctx, tokens, subject)
	if errors.Is(err, login.ErrEnded) {
		return identity.ProviderTokens{}, fmt.Errorf("%w: %w", session.ErrNone, err)
	}
	return renewed, err
}

// once is a store as the login sees it.
type once struct{ store.Store }

// Has takes a note that is not what was written for one: it stands where nobody
// else writes.
func (o once) Has(ctx context.Context, key string) (bool, error) {
	_, err := o.Get(ctx, key)
	switch {
	case err == nil, errors.Is(err, store.ErrSealed):
		return true, nil
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	}
	return false, err
}

// toucher tells sockets in their own words that a session ended.
type toucher struct{ session.Holders }

func (t toucher) Touch(ctx context.Context, key string) (time.Time, error) {
	expires, err := t.Holders.Touch(ctx, key)
	if errors.Is(err, session.ErrNone) {
		return time.Time{}, sockproxy.ErrSessionEnded
	}
	return expires, err
}
