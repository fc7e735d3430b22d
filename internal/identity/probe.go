package identity

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// ErrKeysUnnamed: the source fetches each key by the name that a token gives, so
// there is no list to look at.
var ErrKeysUnnamed = errors.New("keys are fetched one by one")

// ProbeBearer fetches an issuer's keys, or reads those of the configuration, and
// counts them and those that an accepted algorithm can use. Of deps only Transport
// counts. It is for whoever sets whisp-bff up.
func ProbeBearer(ctx context.Context, cfg BearerConfig, deps Deps) (usable, all int, err error) {
	cfg = cfg.complete()
	switch {
	case len(cfg.HMACSecrets) > 0:
		return len(cfg.HMACSecrets), len(cfg.HMACSecrets), nil
	case len(cfg.PublicKeys)+len(cfg.PublicKeyPEMs) > 0:
		keys, err := readPublicKeys(cfg)
		return len(keys), len(keys), err
	case cfg.Preset == presetALB:
		return 0, 0, ErrKeysUnnamed
	}
	client, err := newProviderClient(deps.Transport, cfg.CAFile)
	if err != nil {
		return 0, 0, err
	}
	defer client.CloseIdleConnections()
	keys, err := fetchKeys(ctx, client, cfg)
	for _, key := range keys {
		if slices.ContainsFunc(cfg.Algorithms, key.For) {
			usable++
		}
	}
	return usable, len(keys), err
}

// ProbeIntrospection asks about a token that was made up, and returns whether the
// endpoint takes it for good, which it must not.
func ProbeIntrospection(ctx context.Context, cfg IntrospectionConfig, deps Deps, token string) (active bool, err error) {
	s, err := NewIntrospection(cfg, deps)
	if err != nil {
		return false, err
	}
	defer s.Close()
	answer, err := s.client.ask(ctx, token)
	return string(answer["active"]) == "true", err
}

// ProbeAppSession asks the app about a session cookie that was made up, and
// returns whether it knows somebody by it, which it must not.
func ProbeAppSession(ctx context.Context, cfg AppSessionConfig, site AppSite, deps Deps, value string) (known bool, err error) {
	s, err := NewAppSession(cfg, site, deps)
	if err != nil {
		return false, err
	}
	defer s.Close()
	answer, err := s.ask(ctx, []string{strings.TrimSuffix(cfg.Cookies[0], "*") + "=" + value})
	return err == nil && answer.nobody == nil, err
}
