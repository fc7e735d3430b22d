package identity

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzJoinCookie: whatever cookies come, the result is bounded, is exactly the
// values in the order of their numbers, and lacks none.
func FuzzJoinCookie(f *testing.F) {
	for _, line := range []string{
		"token=abc", "token.0=a; token.1=b", "token.1=b; token.0=a", "token.0=a; token.2=c", "token=a; token.0=b",
		"token.0=a; token.0=b", "token.00=a", "token.-1=a", "token.+1=a", "token.0=", "token.999=a", "tokens=a", "token.=a", `token.0="a"`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		cookies := (&http.Request{Header: http.Header{"Cookie": {line}}}).Cookies()
		got, err := joinCookie(cookies, "token")
		if err != nil {
			if got != "" {
				t.Errorf("%q with an error", got)
			}
			if errors.Is(err, ErrSkip) {
				for _, c := range cookies {
					if (c.Name == "token" || c.Name == "token.0") && c.Value != "" {
						t.Errorf("%q is skipped", line)
					}
				}
			}
			return
		}
		byName := map[string]string{}
		for _, c := range cookies {
			if c.Value != "" {
				byName[c.Name] = c.Value
			}
		}
		want, whole := byName["token"]
		for i := 0; !whole; i++ {
			chunk, ok := byName["token."+strconv.Itoa(i)]
			if !ok {
				break
			}
			want += chunk
		}
		if got != want || got == "" || len(got) > maxToken {
			t.Errorf("%q gives %q, want %q", line, got, want)
		}
	})
}

// FuzzParseToken: no token makes it panic, and none comes out with a depth or
// size beyond the bounds.
func FuzzParseToken(f *testing.F) {
	for _, raw := range []string{
		"eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJub25lIn0.e30.AA", "a.b.c", "....", "", "eyJhbGciOiJkaXIifQ....", "eyJhbGciOiJub25lIn0=.e30=.AA==",
		strings.Repeat("eyJhbGciOiJub25lIn0.", 6), "W10.e30.AA",
	} {
		f.Add(raw, true)
		f.Add(raw, false)
	}
	f.Fuzz(func(t *testing.T, raw string, padded bool) {
		token, err := parseToken(raw, padded)
		if err != nil {
			if token.claims != nil && !strings.Contains(err.Error(), "signature") {
				t.Errorf("claims of a token that is refused: %v", err)
			}
			return
		}
		if _, ok := token.header["alg"]; !ok || token.claims == nil || len(raw) > maxToken || !strings.HasPrefix(raw, token.signed+".") {
			t.Errorf("%q taken apart as %+v", raw, token)
		}
		for _, value := range token.claims {
			if tooDeep(value) {
				t.Errorf("too deep: %s", value)
			}
		}
	})
}

func TestAnswerCache(t *testing.T) {
	c := newAnswerCache[string](3, 100)
	at := clockAt(1000)
	put := func(key string, weight int) { c.put(key, "v-"+key, weight, at(0), at(10)) }
	has := func(second int, want string, keys ...string) {
		t.Helper()
		var got []string
		for _, key := range keys {
			if value, ok := c.get(key, at(second)); ok {
				got = append(got, value)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("has %v, want %q", got, want)
		}
	}
	put("a", 10)
	put("b", 10)
	put("c", 10)
	has(0, "v-a", "a") // now b is the one not used for longest
	put("d", 10)
	has(9, "v-a v-c v-d", "a", "b", "c", "d")
	put("e", 85) // too heavy together: of the three only the last used stays
	has(9, "v-d v-e", "a", "c", "d", "e")
	put("f", 101)
	has(9, "", "f")
	has(-1, "", "d") // the clock was set back
	has(10, "", "e")
	if c.len() != 0 || c.weight != 0 || len(c.byKey) != 0 {
		t.Errorf("%d answers of weight %d left", c.len(), c.weight)
	}
	c.put("g", "v", 1, at(5), at(5))
	if c.len() != 0 {
		t.Error("keeps what is over")
	}
}

func clockAt(base int64) func(second int) time.Time {
	return func(second int) time.Time { return time.Unix(base+int64(second), 0) }
}
