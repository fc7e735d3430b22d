package sockproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	// chunk is the buffer a SockJS answer holds while it waits.
	chunk = 4 << 10
	// sendPatience bounds the passing on of one message, its upload included.
	sendPatience = time.Minute
	// maxInfo bounds the answer of info.
	maxInfo = 64 << 10
)

// answerHeaders may go from Whisp to the browser. CORS headers are ours, and
// balancer cookies are renamed.
var answerHeaders = []string{"Content-Type", "Cache-Control", "Expires", "Etag", "Last-Modified"}

// serveSockJS serves SockJS over HTTP: checks the ticket and passes the request on.
func (p *Proxy) serveSockJS(x *call) error {
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	if t := x.route.transport; t == infoDoc || t == iframeDoc {
		if p.live.isDraining() {
			return shuttingDown()
		}
		if err := p.rates.allow(x.caller.Address); err != nil {
			return err
		}
		if err := ticketVerdict(p.tickets.Known(ctx, hashTicket(x.query.ticket), x.caller.Session)); err != nil {
			return err
		}
		ctx, done := context.WithTimeout(ctx, p.cfg.Load().HandshakeTimeout.D())
		defer done()
		return p.document(ctx, x)
	}
	request := &sockRequest{cancel: cancel, controller: http.NewResponseController(x.w)}
	if x.route.transport.sends() {
		// Nothing calls a message back that is on its way, neither the end of the session
		// nor a client that leaves. It would not help anybody, and net/http, which puts a
		// connection back before it tells of an answer without a body, may break it
		// under whoever uses it next.
		var done context.CancelFunc
		ctx, done = context.WithTimeout(context.WithoutCancel(ctx), sendPatience)
		defer done()
		request.cancel = func(error) {}
	}
	request.seen.Store(p.tick())
	sock, err := p.admit(ctx, x, request)
	if why, ok := errors.AsType[*ending](err); ok {
		return p.farewell(x, sock, why)
	}
	if err != nil {
		return err
	}
	defer func() {
		sock.leave(request)
		p.live.releaseSock(sock, p.clock()) // if this was the last that it waited for
	}()
	if !x.route.transport.sends() {
		// These wait longer than an ordinary request may; the sweep limits them.
		_ = request.controller.SetReadDeadline(time.Time{})
		_ = request.controller.SetWriteDeadline(time.Time{})
	}
	return p.exchange(ctx, x, sock, request)
}

// exchange passes a request of a SockJS session on and its answer back.
func (p *Proxy) exchange(ctx context.Context, x *call, sock *sockSession, request *sockRequest) error {
	response, err := p.askNode(ctx, x, sock)
	if err != nil {
		if why, ok := errors.AsType[*ending](context.Cause(ctx)); ok {
			return p.farewell(x, sock, why)
		}
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNoContent {
		if response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusUnauthorized {
			p.forget(ctx, sock)
		}
		return refusal(response)
	}
	if err := p.claim(ctx, sock); err != nil {
		return err
	}
	return p.pass(ctx, x, response, request)
}

// askNode sends a request of a SockJS session to the session's node. A session that
// Whisp does not know yet moves on if nobody answers there; the others are lost with
// their node.
func (p *Proxy) askNode(ctx context.Context, x *call, sock *sockSession) (*http.Response, error) {
	for {
		node := sock.node()
		response, err := p.ask(ctx, x, node)
		switch {
		case err == nil:
			sock.settle(node)
			return response, nil
		case !neverSent(err) || ctx.Err() != nil:
			return nil, err
		}
		p.nodes.rest(node)
		if x.r.ContentLength != 0 || !sock.moveFrom(node) {
			p.forget(ctx, sock)
			return nil, err
		}
	}
}

// askAny sends a request that belongs to no session to a node that answers.
func (p *Proxy) askAny(ctx context.Context, x *call) (*http.Response, error) {
	order, err := p.nodes.order(ctx)
	if err != nil {
		return nil, upstreamFault(ctx, err)
	}
	var response *http.Response
	for _, node := range order {
		if response, err = p.ask(ctx, x, node); err == nil || !neverSent(err) || x.r.ContentLength != 0 {
			break
		}
		p.nodes.rest(node)
	}
	return response, err
}

// ask sends the request to a node of Whisp. The error is, or wraps, a problem.
func (p *Proxy) ask(ctx context.Context, x *call, node string) (*http.Response, error) {
	r, rt := x.r, x.route
	body := io.Reader(http.NoBody)
	var tooLong *http.MaxBytesError
	if r.ContentLength != 0 {
		body = r.Body
		if limit := p.cfg.Load().MaxMessage.Bytes(); limit > 0 {
			if limit = 2*limit + chunk; r.ContentLength > limit {
				return nil, problem.BodyTooLarge()
			}
			body = http.MaxBytesReader(x.w, r.Body, limit)
		}
	}
	target := url.URL{Scheme: p.base.Scheme, Host: node, Path: p.base.Path, RawQuery: x.query.encode()}
	target.Path = strings.TrimSuffix(target.Path, "/") + rt.path // rt.path needs no escaping
	out, err := http.NewRequestWithContext(ctx, r.Method, target.String(), body)
	if err != nil {
		return nil, problem.Internal().Because(errors.New("make SockJS request")) // err has the URL
	}
	out.Host = p.base.Host
	out.ContentLength = r.ContentLength
	out.Header = p.header(r.Header)
	out.Header.Del("Content-Length")
	out.Header.Set("Accept-Encoding", "identity") // a compressor would hold back what must be flushed
	if cookie := p.cookies.ToWhisp(r.Header); cookie != "" {
		out.Header.Set("Cookie", cookie)
	}
	p.metrics.request(rt.transport)
	response, err := p.transport.RoundTrip(out)
	if errors.As(err, &tooLong) {
		return nil, problem.BodyTooLarge()
	}
	if err != nil {
		return nil, upstreamFault(ctx, err)
	}
	return response, nil
}

// copyHeader sets the headers of an answer.
func (p *Proxy) copyHeader(out http.Header, response *http.Response, t transport) {
	for _, name := range answerHeaders {
		if values := response.Header[name]; len(values) > 0 {
			out[name] = values
		}
	}
	for _, line := range p.cookies.ToBrowser(response.Header) {
		out.Add("Set-Cookie", line)
	}
	out.Set("X-Content-Type-Options", "nosniff")
	if t.streams() {
		out.Set("X-Accel-Buffering", "no") // nginx before us must not buffer
	} else if response.ContentLength >= 0 && response.StatusCode != http.StatusNoContent {
		out.Set("Content-Length", strconv.FormatInt(response.ContentLength, 10))
	}
}

// pass copies an answer, flushed as it comes. The answer of a poll begins with
// its first byte, so that until then it can become another; a stream begins at once.
func (p *Proxy) pass(ctx context.Context, x *call, response *http.Response, request *sockRequest) error {
	w, t := x.w, x.route.transport
	begun := false
	begin := func() {
		if !begun {
			begun = true
			p.copyHeader(w.Header(), response, t)
			w.WriteHeader(response.StatusCode)
		}
	}
	if t.streams() {
		begin()
		_ = request.controller.Flush() // an error shows at the first write
	}
	end, buf := newFrameEnd(t), make([]byte, chunk)
	for {
		n, err := response.Body.Read(buf)
		request.seen.Store(p.now.Load())
		if n > 0 {
			begin()
			if !p.wrote(w, buf[:n], request) {
				return nil // the client is gone; returning ends the request to Whisp
			}
			end.saw(buf[:n])
		}
		switch {
		case err == io.EOF:
			begin()
			return nil
		case err != nil:
			if !begun {
				return p.unbegun(ctx, x, err, request)
			}
			return p.broken(ctx, x, request, end.reached())
		}
	}
}

// wrote writes and flushes, and reports whether the client took it. The sweep sees it stall.
func (p *Proxy) wrote(w http.ResponseWriter, chunk []byte, request *sockRequest) bool {
	request.stalled.Store(p.now.Load())
	defer request.stalled.Store(0)
	if _, err := w.Write(chunk); err != nil {
		return false
	}
	return request.controller.Flush() == nil
}

// unbegun answers where Whisp's answer ended before its first byte: what we ended
// with a close frame.
func (p *Proxy) unbegun(ctx context.Context, x *call, err error, request *sockRequest) error {
	why, ours := errors.AsType[*ending](context.Cause(ctx))
	switch {
	case ours && why.toClient == 0: // slow
		return nil
	case ours:
		return p.farewell(x, request.sock, why)
	}
	return upstreamFault(ctx, err)
}

// broken ends an answer that had begun and whose body did not end. If that was our
// doing, a SockJS close frame comes last, where one may. Otherwise the answer breaks
// towards the browser too (panic with ErrAbortHandler), so that nobody takes a
// part for the whole.
func (p *Proxy) broken(ctx context.Context, x *call, request *sockRequest, atFrameEnd bool) error {
	why, ours := errors.AsType[*ending](context.Cause(ctx))
	switch {
	case ours && why.toClient == 0: // slow
		return nil
	case ours && x.route.transport.streams() && atFrameEnd:
		text, _, _ := closeText(x.route.transport, x.query.callback, why)
		_, _ = io.WriteString(x.w, text)
		request.sock.wasTold()
		return nil
	}
	panic(http.ErrAbortHandler)
}

// farewell answers a request of a SockJS session that we are ending: with a
// close frame if the transport carries anything back, else with a problem.
func (p *Proxy) farewell(x *call, sock *sockSession, why *ending) error {
	text, contentType, ok := closeText(x.route.transport, x.query.callback, why)
	w := x.w
	if !ok || x.route.transport == htmlFile { // htmlfile's page has not begun
		return why.problem()
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, text)
	sock.wasTold()
	return nil
}

// document passes on info, adapted, or the iframe page.
func (p *Proxy) document(ctx context.Context, x *call) error {
	w, rt := x.w, x.route
	response, err := p.askAny(ctx, x)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return refusal(response)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxInfo+1))
	if err != nil {
		return upstreamFault(ctx, err)
	}
	if len(body) > maxInfo {
		return problem.WhispBadAnswer().Because(fmt.Errorf("%s of more than %d bytes", rt.transport, maxInfo))
	}
	if rt.transport == infoDoc {
		if body, err = p.adaptInfo(body); err != nil {
			return problem.WhispBadAnswer().Because(err)
		}
	} else {
		// The page exists to be framed, but only by pages that may use realtime.
		w.Header().Del("X-Frame-Options")
		w.Header().Set("Content-Security-Policy", "frame-ancestors "+strings.Join(p.origins.Load().list, " "))
	}
	p.copyHeader(w.Header(), response, rt.transport)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// adaptInfo makes Whisp's info true for us: our origins, cookies needed (the
// session is one), and no base_url that would lead clients past us.
func (p *Proxy) adaptInfo(body []byte) ([]byte, error) {
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil || doc == nil {
		return nil, errors.New("info is not a JSON object")
	}
	doc["origins"] = p.origins.Load().list
	doc["cookie_needed"] = true
	delete(doc, "base_url")
	return json.Marshal(doc)
}
