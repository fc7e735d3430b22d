package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	// maxSubject bounds subjects and issuers, in bytes (OpenID Connect Core 1.0
	// section 2 has 255 for sub).
	maxSubject = 255
	// maxForwardedValue bounds one header's value, in bytes.
	maxForwardedValue = 8 << 10
	// maxForwardedList bounds how many elements a list claim may have.
	maxForwardedList = 1000
	// warnEvery is in seconds.
	warnEvery = 10
)

// Forwarded is the source "forwarded": an auth proxy in front of whisp-bff has
// found out who the user is and says so in headers.
//
// Anybody can write headers, so three things must hold: the connection comes
// from a listed address; it brings a shared secret, or was opened with a
// verified client certificate of a listed name; and each header stands there
// once, in valid UTF-8, without control characters. In words:
//
//	peer        identity headers   secret or certificate   answer
//	not listed  any                any                     skipped
//	listed      none               any                     skipped
//	listed      some               missing or wrong        refused
//	listed      some               right                   who they name, or refused
//
// Whatever the answer, the headers go no further: the server removes all of
// [Forwarded.Headers] from every request, by [Forwarded.Strip], once the
// sources were asked.
//
// It is not checked that the proxy removes these headers from what its own
// clients send; it must. Other spellings, such as X_Forwarded_User, are never
// read here, so a proxy that overlooks them (CVE-2025-64484) does no harm.
type Forwarded struct {
	cfg     ForwardedConfig
	deps    Deps
	peers   []netip.Prefix
	secrets [][sha256.Size]byte
	headers []string            // canonical, sorted
	folded  map[string]struct{} // for Strip
	names   struct {
		secret, subject, payload string // canonical
		claims, lists            map[string]string
	}
	warned atomic.Int64 // when a warning was last logged, Unix seconds
}

// NewForwarded returns the source. It has nothing to close.
func NewForwarded(cfg ForwardedConfig, deps Deps) (*Forwarded, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("identity.forwarded: %w", err)
	}
	f := &Forwarded{cfg: cfg, deps: deps, folded: map[string]struct{}{}}
	for _, text := range cfg.TrustedPeers {
		prefix, err := parsePeer(text)
		if err != nil {
			return nil, fmt.Errorf("identity.forwarded: %w", err)
		}
		f.peers = append(f.peers, prefix)
	}
	for _, one := range cfg.Secrets {
		f.secrets = append(f.secrets, sha256.Sum256([]byte(one.Text().Reveal())))
	}
	n := &f.names
	n.secret, n.subject = f.own(cfg.SecretHeader), f.own(cfg.SubjectHeader)
	if cfg.PayloadHeader != "" {
		n.payload = f.own(cfg.PayloadHeader)
	}
	n.claims, n.lists = f.ownAll(cfg.Claims), f.ownAll(cfg.ListClaims)
	slices.Sort(f.headers)
	return f, nil
}

// own notes a header as one of ours and returns its canonical name.
func (f *Forwarded) own(name string) string {
	name = http.CanonicalHeaderKey(name)
	f.headers = append(f.headers, name)
	f.folded[foldHeader(name)] = struct{}{}
	return name
}

func (f *Forwarded) ownAll(claims map[string]string) map[string]string {
	names := make(map[string]string, len(claims))
	for claim, header := range claims {
		names[claim] = f.own(header)
	}
	return names
}

// Name implements [Source].
func (f *Forwarded) Name() string { return "forwarded" }

// Headers are the canonical names of all headers the source reads, the secret's
// included: nobody behind whisp-bff may ever see them from a client.
func (f *Forwarded) Headers() []string { return slices.Clone(f.headers) }

// Strip removes the headers from a request, whoever sent it and however they
// are spelt: X_Forwarded_User and x-forwarded.user are one variable to many
// frameworks.
func (f *Forwarded) Strip(header http.Header) {
	for name := range header {
		if _, ours := f.folded[foldHeader(name)]; ours {
			delete(header, name)
		}
	}
}

// Identify implements [Source].
func (f *Forwarded) Identify(ctx context.Context, r *http.Request) (Answer, error) {
	if !f.listed(r.RemoteAddr) || !f.claimed(r.Header) {
		return Answer{}, ErrSkip
	}
	if err := f.prove(r); err != nil {
		f.warn(ctx, r, err)
		return Answer{}, problem.CredentialRefused().Because(err)
	}
	read := f.readHeaders
	if f.names.payload != "" {
		read = f.readPayload
	}
	answer, err := read(r.Header)
	if err != nil {
		f.warn(ctx, r, err)
		return Answer{}, problem.CredentialRefused().Because(err)
	}
	return answer, nil
}

// listed compares the address of the TCP connection's other end.
func (f *Forwarded) listed(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	address := peer.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(f.peers, func(p netip.Prefix) bool { return p.Contains(address) })
}

// claimed reports whether the request says anything about who it is from.
func (f *Forwarded) claimed(header http.Header) bool {
	if f.names.payload != "" {
		return header[f.names.payload] != nil
	}
	if header[f.names.subject] != nil {
		return true
	}
	for _, names := range []map[string]string{f.names.claims, f.names.lists} {
		for _, name := range names {
			if header[name] != nil {
				return true
			}
		}
	}
	return false
}

// prove checks the shared secret, or the client certificate. A secret that is
// there must be right, whatever the certificate.
func (f *Forwarded) prove(r *http.Request) error {
	given := r.Header[f.names.secret]
	switch {
	case len(given) > 1:
		return fmt.Errorf("%s is there %d times", f.names.secret, len(given))
	case len(given) == 1:
		// Hashes compare in constant time whatever the lengths; all are compared.
		sum, right := sha256.Sum256([]byte(given[0])), 0
		for _, known := range f.secrets {
			right |= subtle.ConstantTimeCompare(sum[:], known[:])
		}
		if right != 1 {
			return fmt.Errorf("%s is none of the secrets", f.names.secret)
		}
		return nil
	case len(f.cfg.ClientCertificates) == 0:
		return fmt.Errorf("%s is missing", f.names.secret)
	}
	if r.TLS != nil {
		for _, chain := range r.TLS.VerifiedChains { // empty unless the listener verified one
			if len(chain) > 0 && f.knows(chain[0]) {
				return nil
			}
		}
	}
	return errors.New("neither a secret nor a verified client certificate of a listed name")
}

func (f *Forwarded) knows(certificate *x509.Certificate) bool {
	for _, name := range f.cfg.ClientCertificates {
		if slices.ContainsFunc(certificate.DNSNames, func(has string) bool { return strings.EqualFold(has, name) }) {
			return true
		}
		for _, uri := range certificate.URIs {
			if uri.String() == name {
				return true
			}
		}
	}
	return false
}

// readHeaders takes one claim from each header. An empty header of a claim is
// no claim, since proxies send those for what they do not know. An empty subject
// is nobody.
func (f *Forwarded) readHeaders(header http.Header) (Answer, error) {
	subject, err := single(header, f.names.subject)
	if err == nil {
		err = validSubject(subject)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s %w", f.names.subject, err)
	}
	claims := map[string]any{}
	for claim, name := range f.names.claims {
		value, err := single(header, name)
		if err != nil {
			return Answer{}, fmt.Errorf("%s %w", name, err)
		}
		if value != "" {
			claims[claim] = value
		}
	}
	for claim, name := range f.names.lists {
		value, err := single(header, name)
		if err != nil {
			return Answer{}, fmt.Errorf("%s %w", name, err)
		}
		elements, err := splitList(value)
		if err != nil {
			return Answer{}, fmt.Errorf("%s %w", name, err)
		}
		if elements != nil {
			claims[claim] = elements
		}
	}
	return Answer{Identity: named(f.cfg.Issuer, subject, claims)}, nil
}

// named puts an identity together; iss and sub are always what the identity is.
func named(issuer, subject string, claims map[string]any) Identity {
	all := make(map[string]any, len(claims)+2)
	maps.Copy(all, claims)
	all["iss"], all["sub"] = issuer, subject
	return Identity{Issuer: issuer, Subject: subject, Claims: all}
}

// single returns the one value of a header; "" if there is none.
func single(header http.Header, name string) (string, error) {
	values := header[name]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", fmt.Errorf("is there %d times", len(values))
	case len(values[0]) > maxForwardedValue:
		return "", fmt.Errorf("is longer than %d bytes", maxForwardedValue)
	case !plain(values[0]):
		return "", errors.New("has a control character, or is not valid UTF-8")
	}
	return values[0], nil
}

// splitList takes a comma list apart; nil if it names nothing.
func splitList(value string) ([]any, error) {
	var elements []any
	for element := range strings.SplitSeq(value, ",") {
		if element = strings.TrimSpace(element); element == "" {
			continue
		}
		if len(elements) == maxForwardedList {
			return nil, fmt.Errorf("has more than %d elements", maxForwardedList)
		}
		elements = append(elements, element)
	}
	return elements, nil
}

// validSubject: what may name a person. Nothing is trimmed or folded.
func validSubject(subject string) error {
	switch {
	case subject == "":
		return errors.New("is missing or empty")
	case len(subject) > maxSubject:
		return fmt.Errorf("is longer than %d bytes", maxSubject)
	case !plain(subject):
		return errors.New("has a control character, or is not valid UTF-8")
	}
	return nil
}

// plain reports whether text is valid UTF-8 without control characters.
func plain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// warn logs at most one line per ten seconds: a misconfigured proxy would write
// one for every request. The request's own log line has every refusal.
func (f *Forwarded) warn(ctx context.Context, r *http.Request, cause error) {
	now, last := f.deps.Clock().Unix(), f.warned.Load()
	if now-last < warnEvery || !f.warned.CompareAndSwap(last, now) {
		return
	}
	f.deps.Logger.LogAttrs(ctx, slog.LevelWarn, "identity headers from a listed peer were refused; more may follow without a word for ten seconds",
		slog.String("peer", r.RemoteAddr), slog.String("error", cause.Error()))
}
