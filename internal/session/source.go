package session

import (
	"context"
	"errors"
	"net/http"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// Name implements [identity.Source].
func (s *Sessions) Name() string { return identity.SourceSession }

// peeking is the context key of [Peek].
type peeking struct{}

// Peek returns a context in which finding a session does not count as using it.
func Peek(ctx context.Context) context.Context { return context.WithValue(ctx, peeking{}, true) }

// Identify implements [identity.Source]. It counts as a use, but for [Peek]. A
// cookie that cannot be
// one of ours is no credential and is skipped; one that could be, and opens
// nothing, ends the search.
func (s *Sessions) Identify(ctx context.Context, r *http.Request) (identity.Answer, error) {
	value := s.FromRequest(r)
	if KeyOf(value) == "" {
		return identity.Answer{}, identity.ErrSkip
	}
	found, err := s.Find(ctx, value, ctx.Value(peeking{}) != nil)
	if errors.Is(err, ErrNone) {
		return identity.Answer{}, problem.SessionRequired().Because(err)
	}
	if err != nil {
		return identity.Answer{}, err
	}
	return identity.Answer{Identity: found.Identity, Session: found.Key, Expires: found.Expires}, nil
}
