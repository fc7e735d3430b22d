package identity

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// entryWeight is about what an answer takes besides its JSON, in bytes.
const entryWeight = 256

// key names a question: everything that the answer depends on, each part with
// its length before it, so that no two questions share a key.
func (s *AppSession) key(cookies []string) string {
	h := sha256.New()
	for _, part := range append([]string{"whisp-bff app_session v1", s.request.Method, s.request.URL.String()}, cookies...) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return string(h.Sum(nil))
}

// ask asks the app once. The error is a problem.
func (s *AppSession) ask(ctx context.Context, cookies []string) (appAnswer, error) {
	question := s.request.Clone(ctx)
	question.Header["Cookie"] = []string{strings.Join(cookies, "; ")}
	// RoundTrip, not a Client: it follows no redirect and keeps no cookie.
	response, err := s.transport.RoundTrip(question)
	if err != nil {
		return appAnswer{}, problem.IdentityUnavailable().Because(fmt.Errorf("ask the app: %w", err))
	}
	defer func() { _ = response.Body.Close() }()
	if verdict, err := judge(response); verdict != nil || err != nil {
		_, _ = io.CopyN(io.Discard, response.Body, 4<<10) // so that the connection can be used again
		return appAnswer{nobody: verdict, weight: entryWeight}, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAppAnswer+1))
	switch {
	case err != nil:
		return appAnswer{}, problem.IdentityUnavailable().Because(fmt.Errorf("read the app's answer: %w", err))
	case len(body) > maxAppAnswer:
		return appAnswer{}, unavailable("is larger than %d bytes", maxAppAnswer)
	case len(strings.TrimSpace(string(body))) == 0:
		return appAnswer{nobody: nobody("is empty"), weight: entryWeight}, nil
	}
	document, err := decodeJSON(body)
	if err != nil {
		return appAnswer{}, unavailable("%w", err)
	}
	answer, err := s.read(document)
	answer.weight = len(body) + entryWeight
	return answer, err
}

// judge looks at status and headers: verdict says why it is nobody, err why one
// cannot tell; both nil if the body has the answer.
func judge(response *http.Response) (verdict, err error) {
	switch status := response.StatusCode; {
	case status >= 300 && status < 400:
		return nobody("is a redirect (%d)", status), nil // to a login page
	case status == 400, status == 401, status == 403, status == 404, status == 410, status == 419, status == 431:
		// 400 and 431 are about this browser's cookies; 419 is Laravel's.
		return nobody("is %d", status), nil
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		seconds, parseErr := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16)
		if parseErr != nil {
			return nil, unavailable("is %d", status)
		}
		return nil, problem.IdentityUnavailable().After(min(time.Duration(seconds)*time.Second, time.Minute)).Because(fmt.Errorf("the app's answer is %d", status))
	case status < 200 || status > 299:
		return nil, unavailable("is %d", status)
	case status == http.StatusNoContent, status == http.StatusResetContent:
		return nobody("is empty (%d)", status), nil
	}
	// Whose answer a shared cache kept, nobody can tell.
	if age, parseErr := strconv.ParseUint(response.Header.Get("Age"), 10, 32); parseErr == nil && age > 0 {
		return nil, unavailable("comes from a cache (Age: %d): exempt the endpoint, or send Cache-Control: private, no-store with it", age)
	}
	media, _, parseErr := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if parseErr != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
		return nobody("is not application/json"), nil // a login page
	}
	return nil, nil //nolint:nilnil // neither: the body decides
}

// read maps the app's JSON.
func (s *AppSession) read(document any) (appAnswer, error) {
	value, _ := s.subject.find(document)
	subject, err := subjectOf(value)
	if err != nil {
		return appAnswer{}, problem.CredentialRefused().Because(fmt.Errorf("subject in the app's answer %w", err))
	}
	if subject == "" {
		return appAnswer{nobody: nobody("names nobody")}, nil
	}
	var expires time.Time
	if value, found := s.expires.find(document); s.expires != nil && found && value != nil {
		if expires, err = instant(value); err != nil {
			return appAnswer{}, unavailable("has an expires that %w", err)
		}
		if !s.deps.Clock().Before(expires) {
			return appAnswer{nobody: nobody("is about a session that has expired")}, nil
		}
	}
	claims := make(map[string]any, len(s.claims))
	for claim, path := range s.claims {
		if value, found := path.find(document); found && value != nil {
			claims[claim] = value
		}
	}
	return appAnswer{answer: Answer{Identity: named(s.cfg.Issuer, subject, claims), Expires: expires}}, nil
}

// subjectOf returns "" for what stands for nobody: missing, null, false, empty,
// and 0, which several frameworks give to anonymous visitors.
func subjectOf(value any) (string, error) {
	switch value := value.(type) {
	case nil:
		return "", nil
	case bool:
		if !value {
			return "", nil
		}
	case string:
		if value == "" || value == "0" {
			return "", nil
		}
		return value, validSubject(value)
	case json.Number:
		// 1, 1.0 and 1e0 are one number and three subjects.
		number, err := strconv.ParseInt(value.String(), 10, 64)
		if err != nil || strconv.FormatInt(number, 10) != value.String() {
			return "", errors.New("is a number, but no whole one")
		}
		if number == 0 {
			return "", nil
		}
		return value.String(), nil
	}
	return "", errors.New("is neither text nor number")
}

// instant reads a time as JSON has it: RFC 3339, or Unix time in seconds or,
// from 100,000,000,000 on, milliseconds.
func instant(value any) (time.Time, error) {
	text, ok := value.(string)
	if !ok {
		number, isNumber := value.(json.Number)
		if !isNumber {
			return time.Time{}, errors.New("is neither text nor number")
		}
		seconds, err := number.Float64()
		if err != nil || !(seconds > 0 && seconds < 1e15) { // written so that NaN fails
			return time.Time{}, errors.New("is no time")
		}
		if seconds >= 1e11 {
			return time.UnixMilli(int64(seconds)), nil
		}
		return time.Unix(int64(seconds), 0), nil
	}
	parsed, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, errors.New("is no RFC 3339 time")
	}
	return parsed, nil
}

// nobody and unavailable complete "the app's answer …".
func nobody(format string, args ...any) error {
	return problem.SessionRequired().Because(fmt.Errorf("the app's answer "+format, args...))
}

func unavailable(format string, args ...any) error {
	return problem.IdentityUnavailable().Because(fmt.Errorf("the app's answer "+format, args...))
}
