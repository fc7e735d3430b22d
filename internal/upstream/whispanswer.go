package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// fromWhisp lists the response headers that pass unchanged. Missing on purpose:
// Whisp's CORS and cookie headers, Server, and everything about caching.
var fromWhisp = []string{
	"Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Retry-After",
}

// answer is ReverseProxy's ModifyResponse: it decides what of Whisp's answer
// the browser sees. An error becomes a problem instead of the answer.
func (p *passage) answer(response *http.Response) error {
	if err := p.acceptable(response.StatusCode, response.Header); err != nil {
		return err
	}
	if p.route.Operation == OperationTicket && response.StatusCode == http.StatusOK {
		if err := p.readTicket(response); err != nil {
			return err
		}
	}
	if p.route.Operation == OperationChangeUsername && response.StatusCode < 300 && p.events.Renamed != nil {
		p.events.Renamed(p.session, bearer(response.Header.Get("Authorization")))
	}
	if p.events.Refused != nil && response.StatusCode == http.StatusUnauthorized {
		if values := p.r.Header["Authorization"]; len(values) == 1 {
			p.events.Refused(p.session, bearer(values[0]))
		}
	}
	if p.events.Passed != nil {
		p.events.Passed(p.session, p.route.Operation, response.StatusCode)
	}
	response.Header = p.browserHeader(response.Header)
	protect(p.w.Header())
	return nil
}

// readTicket reads the body into memory and hands the ticket on, before the
// browser can use it.
func (p *passage) readTicket(response *http.Response) error {
	body, err := readBounded(response.Body, maxAnswer)
	_ = response.Body.Close()
	switch {
	case errors.Is(err, errTooLong):
		return problem.WhispBadAnswer().Because(err)
	case err != nil:
		return p.explain(err)
	}
	var ticket struct {
		Ticket string `json:"ticket"`
	}
	if json.Unmarshal(body, &ticket) != nil || ticket.Ticket == "" {
		return problem.WhispBadAnswer().Because(errors.New("no ticket in the answer"))
	}
	if p.events.TicketIssued != nil {
		p.events.TicketIssued(p.session, secret.New(ticket.Ticket))
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	response.Header.Del("Content-Length")
	return nil
}

// acceptable refuses answers that a browser would misunderstand.
func (p *WhispProxy) acceptable(status int, header http.Header) error {
	kind := strings.ToLower(header.Get("Content-Type"))
	html := strings.HasPrefix(kind, "text/html") || strings.HasPrefix(kind, "application/xhtml")
	switch {
	case status < 200 || status >= 300 && status < 400:
		return problem.WhispBadAnswer().Because(fmt.Errorf("status %d", status))
	case status < 300 && html:
		return problem.WhispBadAnswer().Because(errors.New("HTML instead of JSON"))
	case status >= 500 && !strings.Contains(kind, "json"):
		wait, _ := retryAfter(header, p.clock())
		return problem.WhispFailed().Because(fmt.Errorf("status %d", status)).After(wait)
	}
	return nil
}

// browserHeader is what the browser gets of Whisp's response headers. A token
// always leaves as "Bearer <jwt>": the SDK's public refresh takes nothing else.
func (p *WhispProxy) browserHeader(from http.Header) http.Header {
	to := make(http.Header, len(fromWhisp)+2)
	for _, name := range fromWhisp {
		if values := from[name]; len(values) > 0 {
			to[name] = values
		}
	}
	if token := bearer(from.Get("Authorization")); !token.Empty() {
		to["Authorization"] = []string{"Bearer " + token.Reveal()}
	}
	// Any other scheme would make browsers open a password dialogue.
	if challenge := from.Get("Www-Authenticate"); len(challenge) >= 6 && strings.EqualFold(challenge[:6], "Bearer") {
		to["Www-Authenticate"] = []string{challenge}
	}
	if lines := p.cookies.ToBrowser(from); lines != nil {
		to["Set-Cookie"] = lines
	}
	return to
}

// protect sets what every answer under /whisp carries: never stored (they hold
// tokens, tickets and people's messages), never sniffed, never rendered as a
// document of our origin, never embedded by another.
func protect(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
}
