package upstream

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"time"
)

// firstBackoff is the upper bound of the first wait; it doubles with each.
const firstBackoff = 200 * time.Millisecond

// always and surelyNotProcessed say which failures may be repeated.
//
// Sign-in, refresh, getUser, logout and the key probe may always: processing
// one twice leaves at worst one more refresh token, which dies by itself.
func always(failure) bool { return true }

// surelyNotProcessed is the rule for registerUser, where a repetition after a
// success that we did not see would answer 400 "taken", by ourselves. So only:
//
//   - no connection was established: nothing can have been sent;
//   - 429: rate limiters stand before the work;
//   - 503 with Retry-After: a server that plans its return (RFC 9110 section
//     15.6.4). A bare 503 is also what gateways answer when they lost a
//     connection in the middle of a request.
//
// The residue (a timeout, a reset, another 5xx) is returned; the broker
// resolves it by signing in with the credential that only it can derive.
func surelyNotProcessed(f failure) bool {
	return !f.connected || f.status == http.StatusTooManyRequests ||
		f.status == http.StatusServiceUnavailable && f.given
}

// transient reports whether the next attempt could go better.
func (f failure) transient() bool {
	switch f.err.Code {
	case "whisp_unreachable", "whisp_timeout", "whisp_failed", "whisp_rate_limited":
		return true
	}
	return false
}

// backoff returns a wait of full jitter: anywhere between zero and an upper
// bound that doubles with every attempt (0, 1, …), at most limit, which is at most 30 s.
func backoff(random io.Reader, attempt int, limit time.Duration) time.Duration {
	bound := min(firstBackoff<<min(attempt, 10), limit)
	if bound <= 0 {
		return 0
	}
	var seed [4]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return bound // no jitter is still correct
	}
	fraction := int64(binary.BigEndian.Uint32(seed[:])) // of 2^32
	return time.Duration(fraction*bound.Microseconds()>>32) * time.Microsecond
}

// pause waits; it reports false if ctx would end before, and then does not wait
// for that.
func pause(ctx context.Context, wait time.Duration, now time.Time) bool {
	if end, ok := ctx.Deadline(); ok && now.Add(wait).After(end) {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds or a date.
// Values are clamped to 0..1h; what cannot be read counts as not given.
func retryAfter(header http.Header, now time.Time) (wait time.Duration, given bool) {
	value := header.Get("Retry-After")
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, time.Hour), true
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), time.Hour), true
}
