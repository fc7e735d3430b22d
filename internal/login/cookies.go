package login

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// maxLogins is how many logins one browser may have in progress: enough for
	// a restored window full of tabs, few enough that the cookies stay near 2 KiB.
	maxLogins = 24
	// halfSize is the size of the browser's half of a login, in bytes.
	halfSize = 32

	cookieBase = "whisp-login-"
	suffixTime = 1 << 24 // the seconds in a suffix wrap around after 194 days
)

// cookieJar names, builds and finds login cookies.
type cookieJar struct {
	secure bool // false only for plain http on a loopback address
}

func (j cookieJar) prefix() string {
	if j.secure {
		return "__Host-" + cookieBase
	}
	return cookieBase
}

// newSuffix is 8 characters: three bytes of time, so that the oldest can be
// told, and three random ones.
func newSuffix(random io.Reader, now time.Time) (string, error) {
	var raw [6]byte
	var seconds [8]byte
	binary.BigEndian.PutUint64(seconds[:], suffixSeconds(now))
	copy(raw[:3], seconds[5:])
	if _, err := io.ReadFull(random, raw[3:]); err != nil {
		return "", fmt.Errorf("draw cookie suffix: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw[:]), nil
}

// suffixSeconds is a time as a suffix has it, which starts again at suffixTime.
func suffixSeconds(now time.Time) uint64 { return uint64(max(now.Unix(), 0)) % suffixTime }

// suffixAge is how many seconds ago a suffix was made. One that is not ours is
// older than everything; one from a clock ahead of ours is new.
func suffixAge(suffix string, now time.Time) uint64 {
	raw, err := base64.RawURLEncoding.DecodeString(suffix)
	if err != nil || len(raw) != 6 {
		return suffixTime
	}
	made := uint64(raw[0])<<16 | uint64(raw[1])<<8 | uint64(raw[2])
	age := (suffixSeconds(now) - made) % suffixTime
	if age > suffixTime/2 {
		return 0
	}
	return age
}

func (j cookieJar) cookie(suffix, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: j.prefix() + suffix, Value: value, Path: "/", MaxAge: maxAge,
		Secure: j.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

func (j cookieJar) set(suffix string, half []byte) *http.Cookie {
	return j.cookie(suffix, base64.RawURLEncoding.EncodeToString(half), int(loginLife.Seconds()))
}

func (j cookieJar) remove(suffix string) *http.Cookie { return j.cookie(suffix, "", -1) }

// surplus returns removals for the oldest logins, so that one more makes
// maxLogins at most.
func (j cookieJar) surplus(cookies []*http.Cookie, now time.Time) []*http.Cookie {
	var suffixes []string
	for _, c := range cookies {
		if suffix, ours := strings.CutPrefix(c.Name, j.prefix()); ours && !slices.Contains(suffixes, suffix) {
			suffixes = append(suffixes, suffix)
		}
	}
	if len(suffixes) < maxLogins {
		return nil
	}
	slices.SortStableFunc(suffixes, func(a, b string) int { return cmp.Compare(suffixAge(a, now), suffixAge(b, now)) })
	var removals []*http.Cookie
	for _, suffix := range suffixes[maxLogins-1:] {
		removals = append(removals, j.remove(suffix))
	}
	return removals
}

// half finds the browser's half of p among cookies.
func (j cookieJar) half(cookies []*http.Cookie, p pending) ([]byte, bool) {
	for _, c := range cookies {
		if c.Name != j.prefix()+p.Suffix {
			continue
		}
		half, err := strict.DecodeString(c.Value)
		if err != nil || len(half) != halfSize {
			continue
		}
		if sum := sha256.Sum256(half); subtle.ConstantTimeCompare(sum[:], p.Hash) == 1 {
			return half, true
		}
	}
	return nil, false
}
