package identity

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/keyset"
)

const (
	// albFetches is how many keys we have not seen may be asked for in one
	// key interval: here every kid is an address of its own, so that a flood of
	// made-up ones would be a flood of fetches.
	albFetches = 4
	// albKeysMax bounds the keys that are remembered; a region has a few.
	albKeysMax = 32
)

// albKeyID is the only form a key id has; anything else never becomes part of
// an address.
var albKeyID = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// albKeySource finds the keys of AWS load balancers: one PEM document per kid.
type albKeySource struct {
	cfg   BearerConfig
	clock func() time.Time
	fetch func(ctx context.Context, kid string) ([]keyset.Key, error)
	watch func(func(context.Context) ([]keyset.Key, error)) func(context.Context) ([]keyset.Key, error)

	policy keyset.Policy

	mu     sync.Mutex
	sets   map[string]*albKey
	window time.Time // begin of the interval that asked counts in
	asked  int
	closed bool
}

type albKey struct {
	*keyset.Set
	used time.Time
}

func newALBKeySource(cfg BearerConfig, client *http.Client, deps Deps, policy keyset.Policy, log *keyLog) *albKeySource {
	base := albKeys(cfg.LoadBalancers[0])
	return &albKeySource{
		cfg: cfg, clock: deps.Clock, policy: policy, sets: map[string]*albKey{},
		watch: func(fetch func(context.Context) ([]keyset.Key, error)) func(context.Context) ([]keyset.Key, error) {
			return log.watch(cfg.Issuer, fetch)
		},
		fetch: func(ctx context.Context, kid string) ([]keyset.Key, error) {
			document, err := get(ctx, client, base+kid, keyset.MaxDocument)
			if status, ok := errors.AsType[*statusError](err); ok && (status.status == http.StatusNotFound || status.status == http.StatusForbidden) {
				return nil, nil // S3 says either of what it does not have
			}
			if err != nil {
				return nil, err
			}
			keys, err := keyset.ParsePEM(document)
			for i := range keys {
				keys[i].ID = kid
			}
			return keys, err
		},
	}
}

// checkHeader wants the assertion to be of one of our load balancers, made for
// one of our clients: any AWS customer's load balancer signs with the same keys.
func (s *albKeySource) checkHeader(header map[string]json.RawMessage) error {
	signer, err := textMember(header, "signer")
	if err != nil || !slices.Contains(s.cfg.LoadBalancers, signer) {
		return errors.New("signer is not one of the load balancers configured")
	}
	client, err := textMember(header, "client")
	if err != nil || !slices.Contains(s.cfg.Audience, client) {
		return errors.New("client is not one of those configured as audience")
	}
	return nil
}

// Verify implements keySource.
func (s *albKeySource) Verify(ctx context.Context, kid, alg string, check func(key any) bool) error {
	if !albKeyID.MatchString(kid) {
		return keyset.ErrNoKey
	}
	key, err := s.key(kid)
	if err != nil {
		return err
	}
	tried := false
	err = key.Verify(ctx, kid, alg, func(public any) bool {
		tried = true
		return check(public)
	})
	if err != nil && !tried { // it does not exist, or cannot be had now: leave no trace of it
		s.mu.Lock()
		if s.sets[kid] == key {
			delete(s.sets, kid)
		}
		s.mu.Unlock()
	}
	return err
}

// key returns the key set of a kid, which is new if there is budget left.
func (s *albKeySource) key(kid string) (*albKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if key, ok := s.sets[kid]; ok {
		key.used = now
		return key, nil
	}
	if since := now.Sub(s.window); since < 0 || since >= s.policy.Pause {
		s.window, s.asked = now, 0
	}
	if s.asked >= albFetches || s.closed {
		return nil, keyset.ErrUnavailable
	}
	s.asked++
	if len(s.sets) >= albKeysMax {
		s.forgetOldest()
	}
	key := &albKey{used: now, Set: keyset.New(s.policy, s.clock, s.watch(func(ctx context.Context) ([]keyset.Key, error) {
		return s.fetch(ctx, kid)
	}))}
	s.sets[kid] = key
	return key, nil
}

func (s *albKeySource) forgetOldest() {
	oldest := ""
	for kid, key := range s.sets {
		if oldest == "" || key.used.Before(s.sets[oldest].used) {
			oldest = kid
		}
	}
	delete(s.sets, oldest)
}

// Close ends fetches under way.
func (s *albKeySource) Close() {
	s.mu.Lock()
	s.closed = true
	sets := slices.Collect(maps.Values(s.sets))
	s.mu.Unlock()
	for _, set := range sets {
		set.Close()
	}
}

// withHeaderClaims takes iss and exp from the header if the payload lacks
// them: load balancers write them there, and the header is signed as well.
func (t signedToken) withHeaderClaims() signedToken {
	for _, name := range []string{"iss", "exp"} {
		if value, ok := t.header[name]; ok {
			if _, has := t.claims[name]; !has {
				t.claims[name] = value
			}
		}
	}
	return t
}
