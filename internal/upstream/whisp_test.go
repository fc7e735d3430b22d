package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

func signInBodyOf(id string) string {
	return fmt.Sprintf(`{"id":%q,"username":"alice","email":"a@example.com","refreshToken":"refresh-1","roles":["USER"]}`, id)
}

func TestSignInReadsWhatWhispSends(t *testing.T) {
	exp := time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC)
	good := signed(t, jwt.MapClaims{"sub": userID, "exp": exp.Unix(), "username": "alice"})
	for name, c := range map[string]struct {
		body, authorization string
		bad                 bool
	}{
		"Bearer":           {signInBodyOf(userID), "Bearer " + good, false},
		"lower case":       {signInBodyOf(userID), "bearer  " + good, false},
		"bare":             {signInBodyOf(userID), good, false},
		"id only in JWT":   {signInBodyOf(""), good, false},
		"id in upper case": {signInBodyOf(strings.ToUpper(userID)), good, false},
		"other id":         {signInBodyOf("550e8400-e29b-41d4-a716-446655440000"), good, true},
		"no JWT":           {signInBodyOf(userID), "", true},
		"Basic":            {signInBodyOf(userID), "Basic " + good, true},
		"not a JWT":        {signInBodyOf(userID), "Bearer garbage", true},
		"huge JWT":         {signInBodyOf(userID), "Bearer " + strings.Repeat("a", 17<<10), true},
		"no exp":           {signInBodyOf(userID), signed(t, jwt.MapClaims{"sub": userID}), true},
		"exp beyond 9999":  {signInBodyOf(userID), signed(t, jwt.MapClaims{"sub": userID, "exp": 1e18}), true},
		"exp negative":     {signInBodyOf(userID), signed(t, jwt.MapClaims{"sub": userID, "exp": -5}), true},
		"no id anywhere":   {signInBodyOf(""), signed(t, jwt.MapClaims{"exp": exp.Unix()}), true},
		"no refresh token": {`{"id":"` + userID + `"}`, good, true},
		"not JSON":         {"<html>", good, true},
		"null":             {"null", good, true},
		"long body":        {signInBodyOf(userID) + strings.Repeat(" ", 64<<10), good, true},
	} {
		whisp := newWhisp(t, whispConfig("https://whisp.test"), func(r *http.Request) (*http.Response, error) {
			return reply(200, c.body, "Authorization: "+c.authorization), nil
		})
		in, err := whisp.SignIn(t.Context(), "alice", secret.New("password"))
		switch {
		case c.bad && (err == nil || problem.From(err).Code != "whisp_bad_answer"):
			t.Errorf("%s: got %v, want whisp_bad_answer", name, err)
		case c.bad:
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case !strings.EqualFold(in.UserID, userID) || in.JWT.Reveal() != good || in.RefreshToken.Reveal() != "refresh-1" ||
			in.Username != "alice" || in.Email != "a@example.com" || !in.Expires.Equal(exp):
			t.Errorf("%s: got %+v", name, in)
		}
	}
}

func TestCallsSayWhatTheContractSays(t *testing.T) {
	token := signed(t, jwt.MapClaims{"sub": userID, "exp": time.Now().Add(time.Hour).Unix()})
	var seen []string
	whisp := newWhisp(t, whispConfig("https://whisp.test/gateway/"), func(r *http.Request) (*http.Response, error) {
		var body []byte
		if r.Body != nil {
			body, _ = io.ReadAll(r.Body)
		}
		seen = append(seen, fmt.Sprintf("%s %s key=%q auth=%q %s", r.Method, r.URL, r.Header.Get("X-Api-Key"), r.Header.Get("Authorization"), body))
		switch {
		case strings.HasSuffix(r.URL.Path, "registerUser"):
			return reply(201, ""), nil
		case strings.HasSuffix(r.URL.Path, "getUser"):
			return reply(200, `{"id":"`+userID+`","username":"alice","email":"a@example.com","role":["USER"]}`), nil
		default:
			return reply(200, signInBodyOf(userID), "Authorization: Bearer "+token), nil
		}
	})
	ctx := t.Context()
	if err := whisp.Register(ctx, Registration{Username: "alice", Email: "a@example.com", FirstName: "A", Password: secret.New("pass-word")}); err != nil {
		t.Error(err)
	}
	if _, err := whisp.SignIn(ctx, "alice", secret.New("pass-word")); err != nil {
		t.Error(err)
	}
	if jwt, expires, err := whisp.Refresh(ctx, secret.New("refresh-1"), secret.New("old.jwt")); err != nil || jwt.Reveal() != token || expires.Before(time.Now()) {
		t.Errorf("refresh: %v %v", expires, err)
	}
	if user, err := whisp.User(ctx, secret.New("a.b.c")); err != nil || user != (User{userID, "alice", "a@example.com"}) {
		t.Errorf("user: %+v %v", user, err)
	}
	if err := whisp.Logout(ctx, secret.New("a.b.c"), secret.New("refresh-1")); err != nil {
		t.Error(err)
	}
	want := []string{
		`POST https://whisp.test/gateway/api/user/registerUser key="` + testKey + `" auth="" {"username":"alice","firstName":"A","email":"a@example.com","password":"pass-word"}`,
		`POST https://whisp.test/gateway/api/user/signin key="` + testKey + `" auth="" {"username":"alice","password":"pass-word"}`,
		`POST https://whisp.test/gateway/api/auth/refresh key="" auth="Bearer refresh-1" {"expiredJwt":"old.jwt"}`,
		`GET https://whisp.test/gateway/api/user/getUser key="" auth="Bearer a.b.c" `,
		`POST https://whisp.test/gateway/api/auth/logout key="" auth="Bearer a.b.c" {"refreshToken":"refresh-1"}`,
	}
	for i := range want {
		if i >= len(seen) || seen[i] != want[i] {
			t.Errorf("call %d:\n got %q\nwant %q", i, seen, want[i])
			break
		}
	}
}

var errReset = &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}

// outcomeName sums an error up for tables.
func outcomeName(err error) string {
	invalid, isInvalid := errors.AsType[*InvalidError](err)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrUnauthorized):
		return "unauthorized"
	case errors.Is(err, ErrKeyChanged):
		return "key changed"
	case isInvalid:
		return "invalid: " + invalid.Message
	default:
		return problem.From(err).Code
	}
}

func TestStatusesAndRepetitions(t *testing.T) {
	signIn := func(w *Whisp) error { _, err := w.SignIn(context.Background(), "a", secret.New("p")); return err }
	register := func(w *Whisp) error { return w.Register(context.Background(), Registration{}) }
	refresh := func(w *Whisp) error {
		_, _, err := w.Refresh(context.Background(), secret.New("r"), secret.New("j"))
		return err
	}
	logout := func(w *Whisp) error { return w.Logout(context.Background(), secret.New("j"), secret.New("r")) }
	status := func(code int, headers ...string) func() (*http.Response, error) {
		return func() (*http.Response, error) { return reply(code, `{"message":"no"}`, headers...), nil }
	}
	reset := func() (*http.Response, error) { return nil, errReset }
	for name, c := range map[string]struct {
		do       func(*Whisp) error
		upstream func() (*http.Response, error)
		want     string
		calls    int
	}{
		"wrong password":               {signIn, status(401), "unauthorized", 1},
		"key refused at sign-in":       {signIn, status(403), "whisp_key_refused", 2}, // with a probe,
		"bad sign-in":                  {signIn, status(400), "invalid: no", 1},
		"sign-in fails":                {signIn, status(500), "whisp_failed", 3},
		"sign-in limited":              {signIn, status(429, "Retry-After: 1"), "whisp_rate_limited", 3},
		"sign-in limited for long":     {signIn, status(429, "Retry-After: 60"), "whisp_rate_limited", 1},
		"sign-in reset":                {signIn, reset, "whisp_unreachable", 3},
		"sign-in redirected":           {signIn, status(302, "Location: https://evil.test"), "whisp_bad_answer", 1},
		"sign-in not found":            {signIn, status(404), "whisp_bad_answer", 1},
		"register taken":               {register, status(400), "invalid: no", 1},
		"register key refused 401":     {register, status(401), "whisp_key_refused", 1},
		"register key refused 403":     {register, status(403), "whisp_key_refused", 2},
		"register fails":               {register, status(500), "whisp_failed", 1},
		"register gateway lost it":     {register, status(502), "whisp_failed", 1},
		"register bare 503":            {register, status(503), "whisp_failed", 1},
		"register 503 with a plan":     {register, status(503, "Retry-After: 1"), "whisp_failed", 3},
		"register limited":             {register, status(429), "whisp_rate_limited", 3},
		"register never connected":     {register, reset, "whisp_unreachable", 3}, // the fake never calls GotConn
		"refresh token dead":           {refresh, status(401), "unauthorized", 1},
		"refresh forbidden":            {refresh, status(403), "whisp_bad_answer", 1},
		"refresh without a JWT":        {refresh, status(200), "whisp_bad_answer", 1},
		"refresh fails":                {refresh, status(503), "whisp_failed", 3},
		"logout with an expired JWT":   {logout, status(401), "unauthorized", 1},
		"logout fails at the gateway ": {logout, status(504), "whisp_failed", 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				whisp := newWhisp(t, whispConfig("https://whisp.test"), func(*http.Request) (*http.Response, error) {
					calls++
					return c.upstream()
				})
				err := c.do(whisp)
				if outcomeName(err) != c.want || calls != c.calls {
					t.Errorf("got %s after %d calls, want %s after %d", outcomeName(err), calls, c.want, c.calls)
				}
			})
		})
	}
}

// A connection that was there may have carried the registration to its end.
func TestRegisterIsNotRepeatedOnceAConnectionExisted(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan int)
	go func() {
		n := 0
		for {
			conn, err := listener.Accept()
			if err != nil {
				accepted <- n
				return
			}
			n++
			_, _ = conn.Read(make([]byte, 1024))
			_ = conn.Close()
		}
	}()
	cfg := whispConfig("http://" + listener.Addr().String())
	whisp, err := NewWhisp(cfg, whispDeps(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	err = whisp.Register(t.Context(), Registration{Username: "alice", Password: secret.New("p")})
	_ = listener.Close()
	if n := <-accepted; outcomeName(err) != "whisp_unreachable" || n != 1 {
		t.Errorf("got %v after %d connections, want whisp_unreachable after 1", err, n)
	}
	if err := whisp.Register(t.Context(), Registration{}); outcomeName(err) != "whisp_unreachable" {
		t.Errorf("refused: got %v", err)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for name, c := range map[string]struct {
		header func(now time.Time) string
		waits  time.Duration
	}{
		"seconds": {func(time.Time) string { return "2" }, 2 * time.Second},
		"date":    {func(now time.Time) string { return now.Add(2 * time.Second).UTC().Format(http.TimeFormat) }, 2 * time.Second},
		"past":    {func(now time.Time) string { return now.Add(-time.Hour).UTC().Format(http.TimeFormat) }, 0},
		"garbage": {func(time.Time) string { return "soon" }, 0},
		"none":    {func(time.Time) string { return "" }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var times []time.Time
				whisp := newWhisp(t, whispConfig("https://whisp.test"), func(*http.Request) (*http.Response, error) {
					times = append(times, time.Now())
					if len(times) == 1 {
						return reply(429, "", "Retry-After: "+c.header(time.Now())), nil
					}
					return reply(200, `{"id":"1","username":"alice"}`), nil
				})
				if _, err := whisp.User(t.Context(), secret.New("a.b.c")); err != nil {
					t.Fatal(err)
				}
				if waited := times[1].Sub(times[0]); waited != c.waits { // jitter is zero here
					t.Errorf("waited %v, want %v", waited, c.waits)
				}
			})
		})
	}
}

func TestLongRetryAfterIsHandedOn(t *testing.T) {
	whisp := newWhisp(t, whispConfig("https://whisp.test"), func(*http.Request) (*http.Response, error) {
		return reply(503, "", "Retry-After: 30"), nil
	})
	_, err := whisp.User(t.Context(), secret.New("a.b.c"))
	if p := problem.From(err); p.Code != "whisp_failed" || p.RetryAfter != 30*time.Second {
		t.Errorf("got %s after %v", p.Code, p.RetryAfter)
	}
}

func TestBackoffIsFullJitter(t *testing.T) {
	most := strings.NewReader(strings.Repeat("\xff", 1024))
	for attempt := range 60 {
		if wait := backoff(most, attempt, time.Second); wait < 0 || wait >= time.Second {
			t.Errorf("attempt %d: %v", attempt, wait)
		}
	}
	if wait := backoff(zeros{}, 3, time.Second); wait != 0 {
		t.Errorf("least jitter is %v", wait)
	}
	if wait := backoff(strings.NewReader(""), 1, time.Second); wait != 400*time.Millisecond {
		t.Errorf("without randomness: %v", wait)
	}
}

func TestASilentWhispIsGivenUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whisp := newWhisp(t, whispConfig("https://whisp.test"), func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		start := time.Now()
		_, err := whisp.SignIn(t.Context(), "alice", secret.New("p"))
		if took := time.Since(start); outcomeName(err) != "whisp_timeout" || took != 15*time.Second {
			t.Errorf("got %v after %v", err, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := whisp.SignIn(ctx, "alice", secret.New("p")); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled by the caller: got %v", err)
		}
	})
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, status := 0, 500
		cfg := whispConfig("https://whisp.test")
		cfg.Retries, cfg.Breaker.Failures = 0, 3
		whisp := newWhisp(t, cfg, func(*http.Request) (*http.Response, error) {
			calls++
			return reply(status, `{"id":"1","username":"a"}`), nil
		})
		ask := func() error { _, err := whisp.User(t.Context(), secret.New("a.b.c")); return err }

		for range 10 {
			_ = ask()
		}
		err := ask()
		if p := problem.From(err); calls != 3 || p.Code != "whisp_unreachable" || p.RetryAfter != 5*time.Second {
			t.Fatalf("open: %d calls, %v", calls, err)
		}
		time.Sleep(5*time.Second + 1)
		_, _ = ask(), ask()
		if calls != 4 {
			t.Fatalf("half-open and failing: %d calls, want one more", calls)
		}
		time.Sleep(5*time.Second + 1)
		status = 200
		if err := ask(); err != nil {
			t.Fatalf("healed: %v", err)
		}
		status = 401
		for range 10 {
			if err := ask(); !errors.Is(err, ErrUnauthorized) {
				t.Fatalf("401 counts as a failure: %v", err)
			}
		}
		if calls != 15 {
			t.Errorf("%d calls", calls)
		}
	})
}

func TestSecretsShowInNoError(t *testing.T) {
	whisp := newWhisp(t, whispConfig("https://whisp.test"), func(*http.Request) (*http.Response, error) {
		return reply(200, signInBodyOf(userID), "Authorization: Bearer secret.secret.secret"), nil
	})
	_, err := whisp.SignIn(t.Context(), "alice", secret.New("the-password"))
	if err == nil {
		t.Fatal("a JWT that is none was taken")
	}
	for _, hidden := range []string{"secret.secret", "the-password", testKey, "refresh-1"} {
		if strings.Contains(fmt.Sprintf("%v %+v %+v", err, whisp.keys.list, *whisp.keys.list[0]), hidden) {
			t.Errorf("%q shows in %v", hidden, err)
		}
	}
}
