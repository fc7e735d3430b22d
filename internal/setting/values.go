package setting

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time written with its unit: "300ms", "20s", "5m",
// "12h", "1h30m", and "30d" (a day is 24 hours). Negative values are refused.
type Duration time.Duration

// D returns the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string {
	text := time.Duration(d).String()
	// 720h0m0s reads badly; drop the zero tail.
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if number, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseFloat(number, 64)
		if err != nil || !(days >= 0 && days <= 36500) { // written so that NaN fails
			return errors.New("is not a duration; write it like 30d, up to 36500d")
		}
		*d = Duration(days * 24 * float64(time.Hour))
		return nil
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		if _, numeric := strconv.ParseFloat(s, 64); numeric == nil && s != "0" {
			return fmt.Errorf("has no unit; write %ss for seconds or %sm for minutes", s, s)
		}
		return errors.New("is not a duration; write it like 300ms, 20s, 5m, 12h or 30d")
	}
	if parsed < 0 {
		return errors.New("is negative; durations start at 0s")
	}
	*d = Duration(parsed)
	return nil
}

// Size is a number of bytes written with its unit: "512B", "64KiB", "1MiB",
// "2GiB" (powers of 1024) or "64kB", "1MB", "2GB" (powers of 1000).
type Size int64

// Bytes returns the number of bytes.
func (s Size) Bytes() int64 { return int64(s) }

// sizeUnits is ordered so that the longest suffix is tried first.
var sizeUnits = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

func (s Size) String() string {
	for _, unit := range []struct {
		suffix string
		factor int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s != 0 && int64(s)%unit.factor == 0 {
			return strconv.FormatInt(int64(s)/unit.factor, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText implements [encoding.TextMarshaler].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(in, unit.suffix)
		if !ok {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(value >= 0 && value*float64(unit.factor) <= 1<<50) { // written so that NaN fails
			break
		}
		*s = Size(value * float64(unit.factor))
		return nil
	}
	if _, err := strconv.ParseFloat(in, 64); err == nil {
		return fmt.Errorf("has no unit; write %sB for bytes or %sKiB", in, in)
	}
	return errors.New("is not a size; write it like 64KiB, 1MiB or 10MB")
}

// URL is an absolute http or https URL without credentials, query or fragment.
type URL struct{ url.URL }

// MustURL parses a constant; it panics on a bad one.
func MustURL(text string) URL {
	var u URL
	if err := u.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return u
}

// Empty reports whether no URL was given.
func (u URL) Empty() bool { return u.Host == "" }

// Origin returns scheme://host[:port] in lower case, without a default port
// (RFC 6454 section 6.2).
func (u URL) Origin() string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// Loopback reports whether the host is localhost or a loopback address: the
// only places where plain http is safe for cookies.
func (u URL) Loopback() bool {
	if strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	address, err := netip.ParseAddr(u.Hostname()) // "127.evil.example" is a name, not an address
	return err == nil && address.IsLoopback()
}

// MarshalText implements [encoding.TextMarshaler].
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (u *URL) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	if in == "" { // not given; whoever needs one says so in Validate
		*u = URL{}
		return nil
	}
	parsed, err := url.Parse(in)
	switch {
	case err != nil:
		return errors.New("is not a URL; write it like https://app.example.com")
	case parsed.User != nil:
		return errors.New("has a user name or password in it; take it out")
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return errors.New("does not start with https:// or http://; write it like https://app.example.com")
	case parsed.Hostname() == "":
		return errors.New("has no host; write it like https://app.example.com")
	case !validPort(parsed):
		return errors.New("has no valid port after the colon; write one from 1 to 65535, or leave the colon out")
	case parsed.RawQuery != "" || parsed.Fragment != "" || parsed.ForceQuery:
		return errors.New("has a query or fragment; take it out")
	}
	u.URL = *parsed
	return nil
}

// validPort accepts no port at all, but no colon without one.
func validPort(u *url.URL) bool {
	if port := u.Port(); port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		return err == nil && number > 0
	}
	return !strings.HasSuffix(u.Host, ":")
}
