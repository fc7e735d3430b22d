package sockproxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// maxAnswer bounds the header of Whisp's answer to a handshake.
const maxAnswer = 64 << 10

// answer is a connection to Whisp that has become a WebSocket.
type answer struct {
	conn     net.Conn
	early    []byte // frames that came right behind the 101
	protocol string
	cookies  []string // Set-Cookie lines for the browser
}

// dial opens a WebSocket to Whisp for a browser's request. ctx bounds all of
// it; its end, whatever the cause, interrupts at once. The error is, or
// wraps, a problem.
func (p *Proxy) dial(ctx context.Context, x *call, protocols []string) (answer, error) {
	conn, err := p.nodes.dial(ctx)
	if err != nil {
		return answer{}, upstreamFault(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(interrupted) })
	ans, err := p.shake(conn, x, protocols)
	if !stop() && err == nil { // ctx ended in the same moment; the deadline may stand
		err = ctx.Err()
	}
	if err != nil {
		closeNow(conn)
		if _, ok := errors.AsType[*problem.Problem](err); ok {
			return answer{}, err
		}
		return answer{}, upstreamFault(ctx, err)
	}
	return ans, nil
}

// shake writes our handshake and reads the answer (RFC 6455 section 4.1).
func (p *Proxy) shake(conn net.Conn, x *call, protocols []string) (answer, error) {
	var nonce [16]byte
	if _, err := io.ReadFull(p.rand, nonce[:]); err != nil {
		return answer{}, problem.Internal().Because(err)
	}
	key := base64.StdEncoding.EncodeToString(nonce[:])
	if _, err := conn.Write(p.openingRequest(x, key, protocols)); err != nil {
		return answer{}, fmt.Errorf("write handshake: %w", err)
	}
	reader := p.readers.Get().(*bufio.Reader) //nolint:errcheck // nothing else is in the pool
	reader.Reset(io.LimitReader(conn, maxAnswer))
	defer func() {
		reader.Reset(nil)
		p.readers.Put(reader)
	}()
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodGet})
	if err != nil {
		return answer{}, fmt.Errorf("read handshake answer: %w", err)
	}
	_ = response.Body.Close() // empty after a 101; otherwise the connection is given up
	if response.StatusCode != http.StatusSwitchingProtocols {
		return answer{}, refusal(response)
	}
	protocol, err := checkAnswer(response.Header, key, protocols)
	if err != nil {
		return answer{}, problem.WhispBadAnswer().Because(err)
	}
	early, _ := reader.Peek(reader.Buffered())
	return answer{
		conn: conn, early: bytes.Clone(early), protocol: protocol,
		cookies: p.cookies.ToBrowser(response.Header),
	}, nil
}

// openingRequest is our own handshake: the path that matched, the ticket as it
// came, the client's subprotocols, no extensions.
func (p *Proxy) openingRequest(x *call, key string, protocols []string) []byte {
	header := p.header(x.r.Header)
	for _, name := range []string{"Accept-Encoding", "Content-Type", "Content-Length", "Connection", "Upgrade", "Host", "Cookie"} {
		header.Del(name)
	}
	if origin := x.r.Header["Origin"]; len(origin) == 1 {
		header["Origin"] = origin
	}
	if cookie := p.cookies.ToWhisp(x.r.Header); cookie != "" {
		header["Cookie"] = []string{cookie}
	}
	var b bytes.Buffer
	b.Grow(1024)
	target := p.basePath + x.route.path
	if encoded := x.query.encode(); encoded != "" {
		target += "?" + encoded
	}
	b.WriteString("GET " + target + " HTTP/1.1\r\nHost: " + p.base.Host +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n")
	for i, protocol := range protocols {
		b.WriteString([]string{"Sec-WebSocket-Protocol: ", ", "}[min(i, 1)] + protocol)
	}
	if len(protocols) > 0 {
		b.WriteString("\r\n")
	}
	_ = header.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

// checkAnswer checks a 101 (RFC 6455 section 4.1, second list) and returns the
// subprotocol Whisp chose.
func checkAnswer(h http.Header, key string, protocols []string) (string, error) {
	accept, protocol := h["Sec-Websocket-Accept"], h["Sec-Websocket-Protocol"]
	switch {
	case !hasToken(h["Upgrade"], "websocket") || !hasToken(h["Connection"], "upgrade"):
		return "", errors.New("101 without Upgrade: websocket")
	case len(accept) != 1 || accept[0] != acceptKey(key):
		return "", errors.New("101 with a wrong Sec-WebSocket-Accept")
	case len(h["Sec-Websocket-Extensions"]) > 0:
		return "", errors.New("101 with an extension nobody offered")
	case len(protocol) == 0:
		return "", nil
	case len(protocol) > 1 || !slices.Contains(protocols, protocol[0]):
		return "", errors.New("101 with a subprotocol nobody offered")
	}
	return protocol[0], nil
}

// refusal is the problem for an answer of Whisp that is not what was asked
// for. The answer's words are never passed on.
func refusal(response *http.Response) *problem.Problem {
	cause := fmt.Errorf("whisp answered %d", response.StatusCode)
	var p *problem.Problem
	switch status := response.StatusCode; {
	case status == http.StatusUnauthorized:
		p = problem.TicketRefused()
	case status == http.StatusForbidden: // Spring's answer to an origin it does not list
		p = problem.OriginForbidden()
	case status == http.StatusNotFound:
		p = problem.NotFound()
	case status == http.StatusRequestEntityTooLarge:
		p = problem.BodyTooLarge()
	case status == http.StatusTooManyRequests:
		p = problem.WhispRateLimited()
	case status >= 500:
		p = problem.WhispFailed()
	default:
		p = problem.WhispBadAnswer()
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 && p.Status == http.StatusServiceUnavailable {
		p = p.After(time.Duration(min(seconds, 3600)) * time.Second)
	}
	return p.Because(cause)
}

// upstreamFault is the problem for a connection to Whisp that failed. ctx is
// the one it was made under: its cause tells our own doing from Whisp's.
func upstreamFault(ctx context.Context, err error) error {
	if why, ok := errors.AsType[*ending](context.Cause(ctx)); ok {
		if why == endDrain {
			return shuttingDown()
		}
		return problem.SessionRequired()
	}
	if _, ok := errors.AsType[*problem.Problem](err); ok && ctx.Err() == nil {
		return err
	}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return problem.WhispTimeout().Because(err)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && ctx.Err() == nil {
		return problem.WhispTimeout().Because(err)
	}
	return problem.WhispUnreachable().Because(err)
}
