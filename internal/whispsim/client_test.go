package whispsim_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/stomp"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// transports is every way to the STOMP server.
var transports = []string{"wsConnect", "raw", "websocket", "xhr", "xhr_streaming", "eventsource", "htmlfile", "jsonp"}

// wire is a client's end of some transport.
type wire struct {
	t      *testing.T
	send   func(string) error
	in     chan string   // messages; closed at the end, when end is set
	end    string        // why it ended: a close code, or an error
	opened chan struct{} // closed by the first "o", or the end
	once   sync.Once
	cancel context.CancelFunc
}

// wire opens a transport with a ticket. SockJS ids are server "000" and the
// session given.
func (b *bench) wire(transport, session, ticket string) *wire {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	w := &wire{t: b.t, in: make(chan string, 100), opened: make(chan struct{}), cancel: cancel}
	b.t.Cleanup(cancel)
	query := "?ticket=" + ticket
	switch base := b.url + "/api/wsConnect"; transport {
	case "wsConnect":
		w.overWebSocket(ctx, base+query, false)
	case "raw":
		w.overWebSocket(ctx, base+"/websocket"+query, false)
	case "websocket":
		w.overWebSocket(ctx, base+"/000/"+session+"/websocket"+query, true)
	default:
		w.overHTTP(ctx, b.client, base+"/000/"+session+"/", transport, query)
	}
	return w
}

func (w *wire) overWebSocket(ctx context.Context, address string, framed bool) {
	w.t.Helper()
	ws, answer, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: []string{"v12.stomp", "v11.stomp"}})
	if err != nil {
		if answer != nil {
			err = fmt.Errorf("status %d", answer.StatusCode)
		}
		w.end = err.Error()
		close(w.in)
		return
	}
	ws.SetReadLimit(64 << 20)
	if ws.Subprotocol() != "v12.stomp" {
		w.t.Errorf("subprotocol = %q", ws.Subprotocol())
	}
	w.send = func(text string) error {
		if framed {
			text = list(text)
		}
		return ws.Write(ctx, websocket.MessageText, []byte(text))
	}
	go func() {
		defer close(w.in)
		defer func() { _ = ws.CloseNow() }()
		for {
			_, text, err := ws.Read(ctx)
			if err != nil {
				w.end = fmt.Sprint(int(websocket.CloseStatus(err)))
				return
			}
			if !framed {
				w.in <- string(text)
			} else if !w.sockJS(string(text)) {
				return
			}
		}
	}()
}

// overHTTP is a small sockjs-client: one request after the other receives.
func (w *wire) overHTTP(ctx context.Context, client *http.Client, base, transport, query string) {
	sendAs, method, encode := "xhr_send", http.MethodPost, list
	if transport == "jsonp" || transport == "htmlfile" {
		sendAs, method = "jsonp_send", http.MethodGet
		encode = func(text string) string { return url.Values{"d": {list(text)}}.Encode() }
		query += "&c=_jp.cb"
	}
	if transport == "eventsource" {
		method = http.MethodGet
	}
	w.send = func(text string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+sendAs+query, strings.NewReader(encode(text)))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "text/plain")
		if sendAs == "jsonp_send" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		if body, _ := io.ReadAll(answer.Body); answer.StatusCode > 204 || sendAs == "jsonp_send" && string(body) != "ok" {
			return fmt.Errorf("%s: status %d, body %q", sendAs, answer.StatusCode, body)
		}
		return nil
	}
	go func() {
		defer close(w.in)
		for w.receiveOnce(ctx, client, method, base+transport+query) {
		}
		w.once.Do(func() { close(w.opened) })
	}()
	<-w.opened
}

// receiveOnce does one receiving request; false: the session is over.
func (w *wire) receiveOnce(ctx context.Context, client *http.Client, method, address string) bool {
	r, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		w.end = err.Error()
		return false
	}
	answer, err := client.Do(r)
	if err != nil {
		w.end = "request: " + err.Error()
		return false
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != 200 {
		w.end = fmt.Sprintf("status %d", answer.StatusCode)
		return false
	}
	for lines := bufio.NewReader(answer.Body); ; {
		line, err := lines.ReadString('\n')
		if frame := unwrap(strings.TrimRight(line, "\r\n")); frame != "" && !w.sockJS(frame) {
			return false
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				w.end = "body: " + err.Error()
				return false
			}
			return true
		}
	}
}

// unwrap takes the SockJS frame out of what the transports put around it.
func unwrap(line string) string {
	line = strings.TrimPrefix(line, "data: ")
	for _, prefix := range []string{"p(", "/**/_jp.cb("} {
		if quoted, found := strings.CutPrefix(line, prefix); found {
			var frame string
			if json.Unmarshal([]byte(strings.TrimSuffix(quoted, ");")), &frame) == nil {
				return frame
			}
		}
	}
	if line == "o" || line == "h" || strings.HasPrefix(line, "a[") || strings.HasPrefix(line, "c[") {
		return line
	}
	return ""
}

// sockJS takes a SockJS frame; false: it was the last.
func (w *wire) sockJS(frame string) bool {
	switch frame[0] {
	case 'o':
		first := false
		w.once.Do(func() { first = true; close(w.opened) })
		if !first { // net/http repeated a GET that was cut: the session is a new one
			w.end = "reopened"
			return false
		}
	case 'a':
		var messages []string
		if err := json.Unmarshal([]byte(frame[1:]), &messages); err != nil {
			w.end = err.Error()
			return false
		}
		for _, message := range messages {
			w.in <- message
		}
	case 'c':
		var why []any
		_ = json.Unmarshal([]byte(frame[1:]), &why)
		w.end = fmt.Sprint(why[0])
		return false
	}
	return true
}

func list(text string) string {
	quoted, _ := json.Marshal([]string{text})
	return string(quoted)
}

// talk is a STOMP client on a wire.
type talk struct {
	*wire
	decoder stomp.Decoder
}

// frame returns the next frame, nil at the end.
func (c *talk) frame() *stomp.Frame {
	c.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		frame, err := c.decoder.Feed(nil)
		if err != nil {
			c.t.Fatalf("STOMP: %v", err)
		}
		if frame != nil {
			return frame
		}
		select {
		case text, more := <-c.in:
			if !more {
				return nil
			}
			frame, err := c.decoder.Feed([]byte(text))
			if err != nil {
				c.t.Fatalf("STOMP: %v in %q", err, text)
			}
			if frame != nil {
				return frame
			}
		case <-timer.C:
			c.t.Fatal("no frame came")
		}
	}
}

func (c *talk) want(command string) *stomp.Frame {
	c.t.Helper()
	frame := c.frame()
	if frame == nil {
		c.t.Fatalf("connection ended (%s), want %s", c.end, command)
	}
	if frame.Command != command {
		c.t.Fatalf("frame = %s %v %s, want %s", frame.Command, frame.Headers, frame.Body, command)
	}
	return frame
}

// ended waits for the end and tells why.
func (c *talk) ended() string {
	c.t.Helper()
	if frame := c.frame(); frame != nil {
		c.t.Fatalf("frame = %s %v %s, want the end", frame.Command, frame.Headers, frame.Body)
	}
	return c.end
}

func (c *talk) write(text string) {
	c.t.Helper()
	if c.send == nil {
		c.t.Fatalf("not connected: %s", c.end)
	}
	if err := c.send(text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// event returns the next event.
func (c *talk) event() map[string]any {
	c.t.Helper()
	frame := c.want("MESSAGE")
	var e map[string]any
	if err := json.Unmarshal(frame.Body, &e); err != nil {
		c.t.Fatalf("event %s: %v", frame.Body, err)
	}
	return e
}

// say sends an action.
func (c *talk) say(pairs ...any) {
	c.t.Helper()
	c.write("SEND\ndestination:/api/chat\n\n" + strings.TrimSpace(object(pairs...)) + "\x00")
}

func (p *person) connectFrame() string {
	return "CONNECT\naccept-version:1.2,1.1,1.0\nhost:x\nheart-beat:0,0\nAuthorization:Bearer " + p.jwt + "\n\n\x00"
}

// talk opens a transport, connects and subscribes.
func (p *person) talk(transport, session string) *talk {
	p.b.t.Helper()
	c := &talk{wire: p.b.wire(transport, session, p.ticket()), decoder: stomp.Decoder{Version: stomp.V12}}
	c.write(p.connectFrame())
	c.want("CONNECTED")
	c.write("SUBSCRIBE\nid:sub-0\nreceipt:r1\ndestination:/user/" + p.id + "/queue/messages\n\n\x00")
	c.want("RECEIPT")
	return c
}
