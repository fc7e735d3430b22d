package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// ErrSkip: nothing in the request is for this source; ask the next one.
var ErrSkip = errors.New("identity: not for this source")

// Answer is what a source found out.
type Answer struct {
	Identity Identity
	// Expires is when the credential ends; zero if it does not say.
	Expires time.Time
	// Session is the key of the session of ours that the credential is; empty
	// for every source but "session".
	Session string
	// Source is the name of the source that answered.
	Source string
	// Authorization: the credential came in the Authorization header, where the
	// Whisp SDK's own calls carry Whisp's JWT instead.
	Authorization bool
}

// Source finds out who sends a request, from one kind of credential.
type Source interface {
	// Name is the source's name in identity.sources.
	Name() string
	// Identify returns who sends r. It returns [ErrSkip] if r has no credential
	// that is for this source; a problem credential_refused if it has one that
	// does not pass; identity_unavailable if nobody can tell.
	//
	// It must not keep or change r.
	Identify(ctx context.Context, r *http.Request) (Answer, error)
}

// Chain asks sources in order. The first that does not skip decides: a
// credential that fails ends the search, because falling through from a bad
// credential to a weaker source is how CVE-2022-29226 happened.
type Chain struct{ sources []Source }

// NewChain returns a chain of at least one source.
func NewChain(sources ...Source) (*Chain, error) {
	if len(sources) == 0 {
		return nil, errors.New("identity: no source")
	}
	return &Chain{sources: sources}, nil
}

// Names are the sources' names in the order in which they are asked.
func (c *Chain) Names() []string {
	names := make([]string, len(c.sources))
	for i, source := range c.sources {
		names[i] = source.Name()
	}
	return names
}

// Outranks reports whether one source is asked before another; never, if it is
// not asked at all. "" stands for having asked everybody in vain.
func (c *Chain) Outranks(one, other string) bool {
	names := c.Names()
	first, second := slices.Index(names, one), slices.Index(names, other)
	return first >= 0 && (other == "" || first < second)
}

// ReadsAuthorization returns the name of the first source that may read its
// credential from Authorization, or "".
func (c *Chain) ReadsAuthorization() string {
	for _, source := range c.sources {
		if reader, ok := source.(interface{ ReadsAuthorization() bool }); ok && reader.ReadsAuthorization() {
			return source.Name()
		}
	}
	return ""
}

// TrustsInAuthorization reports whether a source, by name, would still believe an
// issuer's credential in Authorization: whoever was recognised by one earlier may
// go on only while it does. It says nothing of the credential itself.
func (c *Chain) TrustsInAuthorization(source, issuer string) bool {
	return slices.ContainsFunc(c.sources, func(one Source) bool {
		reader, ok := one.(interface{ TrustsInAuthorization(issuer string) bool })
		return ok && one.Name() == source && reader.TrustsInAuthorization(issuer)
	})
}

// Identify returns who sends r. Without any credential it returns the problem
// session_required. The error names the source that refused.
func (c *Chain) Identify(ctx context.Context, r *http.Request) (Answer, error) {
	for _, source := range c.sources {
		answer, err := source.Identify(ctx, r)
		switch {
		case errors.Is(err, ErrSkip):
			continue
		case err != nil:
			return Answer{Source: source.Name()}, fmt.Errorf("source %s: %w", source.Name(), err)
		case answer.Identity.Subject == "" || answer.Identity.Issuer == "":
			return Answer{Source: source.Name()}, problem.CredentialRefused().Because(fmt.Errorf("source %s named nobody", source.Name()))
		}
		answer.Source = source.Name()
		return answer, nil
	}
	return Answer{}, problem.SessionRequired()
}
