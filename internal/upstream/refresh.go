package upstream

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	maxRefreshBody = 64 << 10
	// maxRefreshWait caps the wait between two attempts of a proxied refresh.
	maxRefreshWait = 2 * time.Second
)

// refresh forwards POST /api/auth/refresh. Any failed answer of it, 503
// included, logs the user out of the vendor's SDK; so faults that can pass are
// waited out here, for as long as refresh_patience, and only Whisp's own
// verdicts (200, 401 and other 4xx) come back at once. The body goes on as it
// is: clients send expiredJwt in several forms.
func (p *WhispProxy) refresh(w http.ResponseWriter, r *http.Request, session string) {
	body, err := readBounded(r.Body, maxRefreshBody)
	switch {
	case errors.Is(err, errTooLong):
		p.fail(w, r, problem.BodyTooLarge())
		return
	case err != nil:
		w.WriteHeader(StatusClientGone)
		return
	}
	a, f := p.refreshPatiently(r.Context(), p.newRenewal(r, session, body))
	switch {
	case r.Context().Err() != nil:
		w.WriteHeader(StatusClientGone)
		return
	case f != nil:
		p.fail(w, r, f.err)
		return
	}
	err = p.acceptable(a.status, a.header)
	if err == nil && a.status < 300 && bearer(a.header.Get("Authorization")).Empty() {
		err = problem.WhispBadAnswer().Because(errors.New("no JWT in the Authorization header"))
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if p.events.Passed != nil {
		p.events.Passed(session, OperationRefresh, a.status)
	}
	header := w.Header()
	for name, values := range p.browserHeader(a.header) {
		header[name] = append(header[name], values...)
	}
	header.Del("Content-Length") // of a body that may be cut; net/http counts again
	protect(header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// refreshPatiently asks until there is a verdict or patience ends. The last
// failure has its err set unless the client is gone.
func (p *WhispProxy) refreshPatiently(ctx context.Context, one *renewal) (answer, *failure) {
	patience := p.patience
	if patience == 0 {
		patience = p.limit
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var before *failure
	for attempt := 0; ; attempt++ {
		a, f := one.attempt(ctx)
		if f != nil && before != nil && ctx.Err() != nil {
			return a, before // tells more than that our patience cut this one off
		}
		before = f
		if f == nil || f.cancelled != nil || !f.transient() || p.patience == 0 {
			return a, f
		}
		wait := backoff(p.random, attempt, maxRefreshWait)
		if !f.broken { // an open breaker may close sooner than it says: keep asking
			wait += f.err.RetryAfter
		}
		if !pause(ctx, wait, p.clock()) {
			return a, f
		}
	}
}

func (p *WhispProxy) refreshRequest(r *http.Request, body []byte) func(context.Context) (*http.Request, error) {
	header := WhispHeader(r.Header)
	header.Del("Accept-Encoding")
	header.Del("Content-Length")
	if cookies := p.cookies.ToWhisp(r.Header); cookies != "" {
		header["Cookie"] = []string{cookies}
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "") // or net/http would name itself
	}
	target := p.endpoint.URL("/api/auth/refresh", r.URL.RawQuery).String()
	return func(ctx context.Context) (*http.Request, error) {
		out, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body)) //nolint:gosec // G704: the host is the configured one
		if err != nil {
			return nil, err
		}
		out.Header = header.Clone()
		return out, nil
	}
}
