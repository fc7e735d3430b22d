package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// adminBodyLimit bounds the body of one call, in bytes.
const adminBodyLimit = 1 << 20

// adminAPI is everything under /admin/ on the admin listener, and what stands
// before it. It is for programs that hold server.admin_token; without one
// configured nothing is there at all.
//
// Browsers are kept out whatever they hold: a request with Origin or
// Sec-Fetch-Site, which browsers add and pages cannot leave out, is refused, and
// so is a body that a form could send. So no page can reach the listener through
// the browser of somebody on its network, not even with a host name that it
// pointed there.
//
// Calls are logged without query and body: those say who people are.
type adminAPI struct {
	token    secret.Text
	clock    func() time.Time
	logger   *slog.Logger
	draining func() bool
	mux      *http.ServeMux
}

func newAdminAPI(token secret.Text, deps Deps, draining func() bool) *adminAPI {
	a := &adminAPI{token: token, clock: deps.Clock, logger: deps.Logger, draining: draining, mux: http.NewServeMux()}
	a.endpoint("/admin/", nil)
	return a
}

// adminCall is one call of the API.
type adminCall struct {
	http.ResponseWriter
	r      *http.Request
	status int
}

// WriteHeader notes the status for the log.
func (c *adminCall) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap serves [http.ResponseController].
func (c *adminCall) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// endpoint serves a path, a function for each method; a path without any is not
// found.
func (a *adminAPI) endpoint(path string, methods map[string]func(*adminCall) error) {
	a.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		c := &adminCall{ResponseWriter: w, r: r}
		id, began := requestID(r, false), a.clock()
		w.Header().Set(requestIDHeader, id)
		err := a.serve(c, methods)
		if err != nil && r.Context().Err() == nil {
			problem.Write(c, id, problem.From(err))
		}
		a.log(c, path, id, a.clock().Sub(began), err) //nolint:contextcheck // c carries the request and its context
	})
}

func (a *adminAPI) serve(c *adminCall, methods map[string]func(*adminCall) error) error {
	if err := a.admit(c); err != nil {
		return err
	}
	if len(methods) == 0 {
		return problem.NotFound()
	}
	handle, ok := methods[c.r.Method]
	if !ok {
		c.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		return problem.MethodNotAllowed()
	}
	return handle(c)
}

// admit checks who calls, cheapest first.
func (a *adminAPI) admit(c *adminCall) error {
	h := c.r.Header
	switch {
	case a.token.Empty():
		return problem.NotFound().Because(errors.New("server.admin_token is not set"))
	case len(h.Values("Origin")) > 0 || len(h.Values("Sec-Fetch-Site")) > 0:
		return problem.OriginForbidden().Because(errors.New("a browser called the admin API"))
	case !a.token.Equal(bearerToken(h)):
		c.Header().Set("WWW-Authenticate", "Bearer")
		return problem.AdminTokenRefused()
	case a.draining():
		return problem.ShuttingDown()
	}
	return nil
}

// bearerToken reads the one Authorization header (RFC 6750 section 2.1), empty if
// there is none, or another kind, or several.
func bearerToken(h http.Header) secret.Text {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return secret.Text{}
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return secret.Text{}
	}
	return secret.New(strings.TrimSpace(token))
}

func (a *adminAPI) log(c *adminCall, route, id string, took time.Duration, err error) {
	if c.status == 0 {
		c.status = 499 // the client left
	}
	level := slog.LevelInfo
	attributes := []slog.Attr{
		slog.String("request_id", id), slog.String("method", clip(c.r.Method, 16)), slog.String("route", route),
		slog.Int("status", c.status), slog.Float64("ms", float64(took.Microseconds())/1000),
	}
	if err != nil {
		p := problem.From(err)
		attributes = append(attributes, slog.String("code", p.Code))
		if cause := p.Unwrap(); cause != nil {
			attributes = append(attributes, slog.String("cause", clip(cause.Error(), 500)))
		}
		if p.Status >= http.StatusInternalServerError {
			level = slog.LevelWarn
		}
	}
	a.logger.LogAttrs(c.r.Context(), level, "admin request", attributes...)
}

// read decodes the JSON body, strictly.
func (c *adminCall) read(into any) error {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return problem.BodyInvalid().Because(errors.New("Content-Type is not application/json"))
	}
	raw, err := io.ReadAll(http.MaxBytesReader(c, c.r.Body, adminBodyLimit))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return problem.BodyTooLarge()
		}
		return problem.BodyInvalid().Because(fmt.Errorf("read body: %w", err))
	}
	// From here on net/http only watches whether the client leaves, and would
	// take the deadline for reading the body for that.
	_ = http.NewResponseController(c).SetReadDeadline(time.Time{})
	if !utf8.Valid(raw) {
		return problem.BodyInvalid().Because(errors.New("body is not UTF-8"))
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return problem.BodyInvalid().Because(errors.New("body is not the documented JSON")) // the decoder's own text quotes it
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return problem.BodyInvalid().Because(errors.New("body has more than one JSON value"))
	}
	return nil
}

// write answers with JSON.
func (c *adminCall) write(status int, body any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	c.Header().Set("Content-Type", "application/json")
	c.Header().Set("Cache-Control", "no-store")
	c.Header().Set("X-Content-Type-Options", "nosniff")
	c.WriteHeader(status)
	_, _ = c.Write(encoded)
	return nil
}
