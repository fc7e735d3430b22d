package setting_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "0": 0, "300ms": 300 * time.Millisecond, "20s": 20 * time.Second, " 5m ": 5 * time.Minute,
		"12h": 12 * time.Hour, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "0.5d": 12 * time.Hour,
	} {
		var d setting.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.D() != want {
			t.Errorf("%q is %s (%v), want %s", text, d.D(), err, want)
		}
	}
	for text, want := range map[string]string{
		"5":         "has no unit; write 5s for seconds or 5m for minutes",
		"1.5":       "has no unit; write 1.5s for seconds or 1.5m for minutes",
		"-5m":       "is negative; durations start at 0s",
		"":          "is not a duration; write it like 300ms, 20s, 5m, 12h or 30d",
		"5 minutes": "is not a duration; write it like 300ms, 20s, 5m, 12h or 30d",
		"-1d":       "is not a duration; write it like 30d, up to 36500d",
		"NaNd":      "is not a duration; write it like 30d, up to 36500d",
		"infd":      "is not a duration; write it like 30d, up to 36500d",
		"36501d":    "is not a duration; write it like 30d, up to 36500d",
	} {
		d := setting.Duration(time.Hour)
		if err := d.UnmarshalText([]byte(text)); err == nil || err.Error() != want || d.D() != time.Hour {
			t.Errorf("%q gives %v and %s, want %s", text, err, d, want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0B": 0, "512B": 512, "64KiB": 64 << 10, "1MiB": 1 << 20, "2GiB": 2 << 30, "1.5MiB": 3 << 19,
		"64kB": 64_000, "64KB": 64_000, "10MB": 10_000_000, "2GB": 2_000_000_000, "1 MiB": 1 << 20,
	} {
		var s setting.Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s.Bytes() != want {
			t.Errorf("%q is %d (%v), want %d", text, s.Bytes(), err, want)
		}
	}
	for text, want := range map[string]string{
		"65536": "has no unit; write 65536B for bytes or 65536KiB",
		"":      "is not a size; write it like 64KiB, 1MiB or 10MB",
		"1mb":   "is not a size; write it like 64KiB, 1MiB or 10MB",
		"-1MiB": "is not a size; write it like 64KiB, 1MiB or 10MB",
		"NaNB":  "is not a size; write it like 64KiB, 1MiB or 10MB",
		"9e9GB": "is not a size; write it like 64KiB, 1MiB or 10MB",
	} {
		s := setting.Size(1)
		if err := s.UnmarshalText([]byte(text)); err == nil || err.Error() != want || s != 1 {
			t.Errorf("%q gives %v and %d, want %s", text, err, s, want)
		}
	}
}

// TestTextRoundTrip holds for every default in the reference.
func TestTextRoundTrip(t *testing.T) {
	for d, want := range map[setting.Duration]string{
		0: "0s", setting.Duration(300 * time.Millisecond): "300ms", setting.Duration(90 * time.Second): "1m30s",
		setting.Duration(10 * time.Minute): "10m", setting.Duration(time.Hour): "1h", setting.Duration(720 * time.Hour): "720h",
		setting.Duration(time.Hour + time.Second): "1h0m1s",
	} {
		var back setting.Duration
		if text, _ := d.MarshalText(); string(text) != want || back.UnmarshalText(text) != nil || back != d {
			t.Errorf("%d writes itself as %s and reads %d, want %s", d, text, back, want)
		}
	}
	for s, want := range map[setting.Size]string{0: "0B", 512: "512B", 1 << 10: "1KiB", 1 << 20: "1MiB", 3 << 19: "1536KiB", 1 << 30: "1GiB", 1000: "1000B"} {
		var back setting.Size
		if text, _ := s.MarshalText(); string(text) != want || back.UnmarshalText(text) != nil || back != s {
			t.Errorf("%d writes itself as %s and reads %d, want %s", s, text, back, want)
		}
	}
}

func TestURL(t *testing.T) {
	for text, origin := range map[string]string{
		"https://app.example.com":           "https://app.example.com",
		" https://APP.example.com:443/base": "https://app.example.com",
		"http://127.0.0.1:3000":             "http://127.0.0.1:3000",
		"http://[::1]:80/":                  "http://[::1]",
		"http://localhost:443":              "http://localhost:443",
	} {
		var u setting.URL
		if err := u.UnmarshalText([]byte(text)); err != nil || u.Origin() != origin || u.Empty() {
			t.Errorf("%q has origin %s (%v), want %s", text, u.Origin(), err, origin)
		}
	}
	for text, want := range map[string]string{
		"app.example.com":              "does not start with https:// or http://",
		"ftp://app.example.com":        "does not start with https:// or http://",
		"//app.example.com":            "does not start with https:// or http://",
		"https:///path":                "has no host",
		"https:evil":                   "has no host",
		"https://:443":                 "has no host",
		"https://a%zz":                 "is not a URL",
		"https://user:hunter2@a.com":   "has a user name or password in it",
		"ftp://user:hunter2@a.com":     "has a user name or password in it",
		"https://a.com:":               "has no valid port",
		"https://a.com:0":              "has no valid port",
		"https://a.com:70000":          "has no valid port",
		"https://a.com/?x=hunter2":     "has a query or fragment",
		"https://a.com?":               "has a query or fragment",
		"https://a.com/#hunter2":       "has a query or fragment",
		"https://user:hunter2@a.com:x": "is not a URL",
	} {
		var u setting.URL
		err := u.UnmarshalText([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || !u.Empty() {
			t.Errorf("%q gives %v, want %s", text, err, want)
		}
	}
}

func TestURLLoopback(t *testing.T) {
	for text, want := range map[string]bool{
		"http://localhost": true, "http://LOCALHOST:1": true, "http://127.0.0.1:3000": true, "http://127.1.2.3": true, "http://[::1]": true,
		"http://127.evil.example": false, "http://localhost.evil.example": false, "http://10.0.0.1": false, "http://0.0.0.0": false, "https://app.example.com": false,
	} {
		if got := setting.MustURL(text).Loopback(); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestSecret(t *testing.T) {
	var s setting.Secret
	if s.Given() || !s.Text().Empty() {
		t.Error("the zero Secret has a value")
	}
	s.File = "/run/secrets/key"
	if !s.Given() || !s.Text().Empty() {
		t.Error("a Secret has a value only after Resolve")
	}
	s.Resolve(secret.New("hunter2-hunter2"))
	if s.Text().Reveal() != "hunter2-hunter2" {
		t.Error("Text is not what Resolve stored")
	}
	value := setting.SecretValue("hunter2-hunter2")
	encoded, err := json.Marshal(value)
	if err != nil || !value.Given() || value.Text().Reveal() != "hunter2-hunter2" {
		t.Errorf("SecretValue gives %v, %v", value, err)
	}
	for _, shown := range []string{string(encoded), fmt.Sprint(value), fmt.Sprintf("%+v %#v", value, value)} {
		if strings.Contains(shown, "hunter2") {
			t.Errorf("a Secret shows itself: %s", shown)
		}
	}
}

func TestProblems(t *testing.T) {
	var inner, outer setting.Problems
	if outer.Err() != nil {
		t.Error("no problems are an error")
	}
	inner.Add("url", "is required", "write one")
	inner.Add("[0]", "is short", "")
	inner.Addf("", "is odd", "use %d", 2)
	outer.Include("whisp", inner.Err())
	outer.Include("login", fmt.Errorf("cannot say: %w", errors.New("why")))
	outer.Include("store", fmt.Errorf("around: %w", inner.Err()))
	want := []string{
		"whisp.url is required: write one", "whisp[0] is short", "whisp is odd: use 2", "login cannot say: why",
		"store.url is required: write one", "store[0] is short", "store is odd: use 2",
	}
	var got []string
	for _, e := range setting.List(outer.Err()) {
		got = append(got, e.Error())
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if setting.List(nil) != nil {
		t.Error("nil has problems")
	}
}
