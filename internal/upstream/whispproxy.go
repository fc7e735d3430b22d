package upstream

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// StatusClientGone is written when the client went away before an answer was
// there. Nobody reads it but the access log (nginx's 499).
const StatusClientGone = 499

const (
	maxQuery      = 8 << 10
	maxQueryPairs = 100
)

// Events are what others want to know of the proxied calls. Each is called
// before the answer is sent, on the request's goroutine: be quick. A nil one is
// skipped.
type Events struct {
	// TicketIssued tells that Whisp gave this session a realtime ticket.
	TicketIssued func(session string, ticket secret.Text)
	// Renamed tells that Whisp changed the user name of this session's account.
	// jwt takes the place of the one that the browser sent; it is empty if the
	// answer brought none. No answer, or one that is refused here, may hide a
	// change that nobody is told of.
	Renamed func(session string, jwt secret.Text)
	// Refused tells that Whisp answered 401 to this session's call with a JWT.
	Refused func(session string, jwt secret.Text)
	// Passed tells that Whisp answered a call of this session.
	Passed func(session, operation string, status int)
}

// WhispProxyDeps are what [NewWhispProxy] needs besides configuration.
type WhispProxyDeps struct {
	WhispDeps
	Cookies BalancerCookies
	Events  Events
	// Renewals may be nil: then each refresh is a call.
	Renewals Renewals
	// Fail answers with the problem in err (problem.From).
	Fail func(w http.ResponseWriter, r *http.Request, err error)
}

// WhispProxy carries the browser's REST calls to Whisp. Its caller has checked
// session and origin. It is safe for concurrent use.
//
// What goes out is put together from allow-lists: the route that matched, the
// headers of [WhispHeader], the load balancer's cookies, the query as it came
// if it is well formed, and for POST, PUT and PATCH the body, streamed. What
// comes back keeps status, body and a few headers; Set-Cookie goes through
// [BalancerCookies], Whisp's CORS headers are dropped, and every answer is
// marked no-store, nosniff and unfit for other origins.
//
// Whisp's own 401 passes, since the SDK heals by it. No fault of ours or of the
// network ever becomes a 401. A redirect, or HTML where JSON belongs, becomes
// WhispBadAnswer: fetch would take either for success.
type WhispProxy struct {
	exchanger
	routes   routes
	cookies  BalancerCookies
	events   Events
	renewals Renewals
	fail     func(http.ResponseWriter, *http.Request, error)
	random   io.Reader
	errors   *log.Logger
	maxBody  int64
	limit    time.Duration // of a whole call
	patience time.Duration // for a refresh
}

// NewWhispProxy returns the proxy. cfg must have passed Validate.
func NewWhispProxy(cfg WhispConfig, deps WhispProxyDeps) *WhispProxy {
	return &WhispProxy{
		exchanger: newExchanger(cfg, deps.WhispDeps, deps.Endpoint.Transport()),
		routes:    newRoutes(cfg.ExtraRoutes),
		cookies:   deps.Cookies,
		events:    deps.Events,
		renewals:  deps.Renewals,
		fail:      deps.Fail,
		random:    deps.Rand,
		errors:    slog.NewLogLogger(deps.Logger.Handler(), slog.LevelDebug),
		maxBody:   cfg.MaxBody.Bytes(),
		limit:     cfg.Timeouts.Proxied.D(),
		patience:  cfg.RefreshPatience.D(),
	}
}

// Match finds the route of a request. escapedPath is r.URL.EscapedPath() without
// the "/whisp" prefix: it starts with "/api". Its error is PathNotCanonical,
// RouteForbidden, or a [*MethodError], which wraps MethodNotAllowed. The
// realtime paths are not routes of this proxy.
func (p *WhispProxy) Match(method, escapedPath string) (Route, error) {
	return p.routes.match(method, escapedPath)
}

// Serve forwards r along a route that Match returned. w must be the server's own
// ResponseWriter or have Unwrap. The session is handed to the events only.
func (p *WhispProxy) Serve(w http.ResponseWriter, r *http.Request, route Route, session string) {
	switch {
	case !cleanQuery(r.URL.RawQuery):
		p.fail(w, r, problem.PathNotCanonical().Because(errors.New("query not well formed or too long")))
	case r.ContentLength > p.maxBody:
		p.fail(w, r, problem.BodyTooLarge())
	case route.Operation == OperationRefresh:
		p.refresh(w, r, session)
	default:
		p.forward(w, r, route, session)
	}
}

// cleanQuery reports whether two parsers would read the query alike.
func cleanQuery(raw string) bool {
	if len(raw) > maxQuery || strings.Count(raw, "&") >= maxQueryPairs {
		return false
	}
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] > '~' || raw[i] == '#' || raw[i] == '\\' {
			return false
		}
	}
	_, err := url.ParseQuery(raw)
	return err == nil
}

func (p *WhispProxy) forward(w http.ResponseWriter, r *http.Request, route Route, session string) {
	ctx, cancel := context.WithTimeout(r.Context(), p.limit)
	defer cancel()
	one := &passage{WhispProxy: p, w: w, r: r, ctx: ctx, route: route, session: session}
	in := r.WithContext(ctx)
	if r.ContentLength == 0 || route.method == http.MethodGet || route.method == http.MethodDelete {
		in.Body, in.ContentLength, in.TransferEncoding = nil, 0, nil
	} else {
		one.body.ReadCloser = http.MaxBytesReader(w, r.Body, p.maxBody)
		in.Body = &one.body
	}
	proxy := httputil.ReverseProxy{
		Rewrite:        one.rewrite,
		Transport:      one,
		ModifyResponse: one.answer,
		ErrorHandler:   one.failed,
		ErrorLog:       p.errors,
	}
	proxy.ServeHTTP(w, in)
}

// passage is one call on its way.
type passage struct {
	*WhispProxy
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context
	route   Route
	session string
	body    clientBody
}

// rewrite builds the request for Whisp. Only what stands here goes out.
func (p *passage) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.URL = p.endpoint.URL(p.route.Path, p.r.URL.RawQuery)
	out.Method = p.route.method
	out.Host = ""
	out.Trailer = nil
	// Out's header, not In's: what Connection names is gone from it already.
	out.Header = WhispHeader(out.Header)
	if p.route.Operation == OperationTicket {
		out.Header.Del("Accept-Encoding") // the answer is read here
	}
	if cookies := p.cookies.ToWhisp(p.r.Header); cookies != "" {
		out.Header["Cookie"] = []string{cookies}
	}
}

// RoundTrip sends the request, minding breaker and metrics.
func (p *passage) RoundTrip(out *http.Request) (*http.Response, error) {
	done, err := p.endpoint.breaker.Allow()
	if err != nil {
		p.metrics.calls.WithLabelValues("proxy", p.route.Operation, "breaker_open").Inc()
		return nil, problem.WhispUnreachable().Because(err).After(p.openFor)
	}
	report := errExcluded // should this panic
	defer func() { done(report) }()

	// A context of our own in place of ReverseProxy's, whose trace would pass
	// Whisp's 1xx answers, headers and all, to the browser.
	var connected atomic.Bool
	ctx := httptrace.WithClientTrace(p.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	start := p.clock()
	response, err := p.transport.RoundTrip(out.WithContext(ctx))
	took := p.clock().Sub(start)
	if err != nil {
		err = p.explain(err)
		p.metrics.observe("proxy", p.route.Operation, outcomeOf(err), took)
		// Time that ran out before a connection was there may have been spent
		// waiting for our own pool; a failed dial ends long before.
		if !connected.Load() && p.ctx.Err() == nil {
			report = err
		}
		return nil, err
	}
	p.metrics.observe("proxy", p.route.Operation, outcome(response.StatusCode), took)
	if response.StatusCode < 500 {
		report = nil
	}
	plain := *response // a copy, so that trailers that arrive later do not pass
	plain.Trailer = nil
	return &plain, nil
}

// explain turns an error of the transport into one for the client.
func (p *passage) explain(err error) error {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return problem.BodyTooLarge()
	}
	if p.body.failed.Load() || p.r.Context().Err() != nil {
		return context.Canceled // the client's side broke, whatever it looks like from here
	}
	return transportProblem(p.ctx, err)
}

// failed is ReverseProxy's ErrorHandler.
func (p *passage) failed(_ http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		p.w.WriteHeader(StatusClientGone)
		return
	}
	p.fail(p.w, p.r, err)
}

// clientBody is a request body that remembers whether reading it failed: then
// it is the client that is at fault, though the transport reports the error.
type clientBody struct {
	io.ReadCloser
	failed atomic.Bool
}

func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Store(true)
	}
	return n, err
}
