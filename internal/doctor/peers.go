package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// whispClock is how far Whisp's clock may be off: its JWTs live five minutes by its
// clock, and are renewed by ours.
const whispClock = time.Minute

// whisp asks with a made-up key first, which must be refused: that proves that Whisp
// is there and that keys are looked at. Then with each real one.
func (e *examination) whisp(ctx context.Context) []Finding {
	const name, caFile = "whisp.url", "whisp.ca_file"
	clocks := &dates{clock: e.deps.Clock}
	probe, err := upstream.NewProbe(e.cfg.Whisp, e.deps.Clock, e.deps.Logger, func(next http.RoundTripper) http.RoundTripper {
		clocks.next = next
		return clocks
	})
	if err != nil {
		return []Finding{unusable(name, err, caFile)}
	}
	defer probe.Close()
	made, err := e.madeUp()
	if err != nil {
		return []Finding{{name, Warn, oneLine(err), ""}}
	}
	status, err := probe.Key(ctx, secret.New(made))
	switch {
	case err == nil || errors.Is(err, upstream.ErrKeyRefused):
	case status == 0:
		f := unreachable(name, whispCause(err), caFile)
		if f.Advice == "" {
			f.Advice = "write the base URL of your cluster, without a path"
		}
		return []Finding{f}
	case status >= http.StatusInternalServerError, status == http.StatusTooManyRequests:
		return []Finding{{name, Warn, fmt.Sprintf("is there and answers %d", status), "try again later; keys were not verified"}}
	default:
		return []Finding{{name, Fail, fmt.Sprintf("whatever is there does not answer like Whisp (status %d)", status), "write the base URL of your cluster, without a path"}}
	}
	found := []Finding{{name, OK, e.cfg.Whisp.URL.Origin() + " answers like Whisp", ""}}
	if connectErr := probe.Connect(ctx); connectErr != nil {
		f := unreachable("whisp.realtime", connectErr, caFile)
		if f.Advice == "" {
			f.Advice = "what stands before Whisp must let HTTP/1.1 and WebSockets pass"
		}
		found = append(found, f)
	} else {
		found = append(found, Finding{"whisp.realtime", OK, "HTTP/1.1, which sockets need, is served", ""})
	}
	found = append(found, clocks.finding("whisp.clock", whispClock, "run NTP on this machine"))
	return append(found, e.apiKeys(ctx, probe, status)...)
}

// whispCause is the transport's error inside a problem.
func whispCause(err error) error {
	if p, ok := errors.AsType[*problem.Problem](err); ok && p.Unwrap() != nil {
		return p.Unwrap()
	}
	return err
}

// apiKeys asks about each key; forged is how Whisp answered a made-up one.
func (e *examination) apiKeys(ctx context.Context, probe *upstream.Probe, forged int) []Finding {
	found := make([]Finding, len(e.cfg.Whisp.APIKeys))
	var wg sync.WaitGroup
	for i, key := range e.cfg.Whisp.APIKeys {
		wg.Go(func() {
			status, err := probe.Key(ctx, key.Text())
			found[i] = apiKey(fmt.Sprintf("whisp.api_keys[%d]", i), status, forged, err)
		})
	}
	wg.Wait()
	good := 0
	for _, f := range found {
		if f.Status == OK {
			good++
		}
	}
	if good > 0 { // one that works is enough to serve
		for i := range found {
			if found[i].Status == Fail {
				found[i].Status = Warn
			}
		}
	}
	return found
}

func apiKey(name string, status, forged int, err error) Finding {
	refused := errors.Is(err, upstream.ErrKeyRefused)
	switch {
	case err == nil && forged < http.StatusUnauthorized || err == nil && forged == http.StatusUnprocessableEntity:
		return Finding{name, Info, "not verified: this Whisp answers a made-up key the same way", ""}
	case err == nil:
		return Finding{name, OK, "Whisp accepts it, and refuses a made-up one", ""}
	case refused && status == http.StatusForbidden && forged == http.StatusUnauthorized:
		return Finding{name, Warn, "Whisp answers 403, and 401 to a made-up key: known, and not allowed", "look for a limit of your Whisp plan"}
	case refused:
		return Finding{name, Fail, fmt.Sprintf("Whisp refuses it (%d)", status), "write a key that is listed and not revoked in the Whisp console, of the same app as whisp.url"}
	}
	detail, advice := connection(whispCause(err), "whisp.ca_file")
	if detail == "" {
		detail = fmt.Sprintf("Whisp answers %d", status)
	}
	return Finding{name, Warn, "not verified: " + detail, advice}
}

// app asks for the app's front page.
func (e *examination) app(ctx context.Context) []Finding {
	const name = "app.url"
	origin := e.cfg.App.URL.Origin()
	status, err := upstream.ProbeApp(ctx, e.cfg.App, e.cfg.PublicURL)
	switch {
	case err != nil:
		f := unreachable(name, err, "app.ca_file")
		if f.Advice == "" {
			f.Advice = "is it a web server? perhaps it is another port"
		}
		return []Finding{f}
	case status >= http.StatusInternalServerError:
		return []Finding{{name, Warn, fmt.Sprintf("%s answers %d at /", origin, status), "look at the app's log"}}
	case e.cfg.App.PreserveHost && (status == http.StatusBadRequest || status == http.StatusForbidden || status == http.StatusMisdirectedRequest):
		return []Finding{{
			name, Warn, fmt.Sprintf("%s answers %d to Host: %s", origin, status, e.cfg.PublicURL.Host),
			"allow that host in the app, or set app.preserve_host: false",
		}}
	}
	return []Finding{{name, OK, fmt.Sprintf("%s answers %d at /", origin, status), ""}}
}

// store looks at Redis, if there is one.
func (e *examination) store(ctx context.Context) []Finding {
	cfg := e.cfg.Store
	if cfg.Kind != store.KindRedis {
		return []Finding{{"store", Info, "in memory: one process, and a restart signs everybody out", "for more replicas use kind: redis"}}
	}
	const name = "store.redis"
	server, err := store.OpenRedis(cfg.Redis, store.Deps{Logger: e.deps.Logger, Rand: e.deps.Rand})
	if err != nil {
		return []Finding{unusable(name, err, "store.redis.tls.ca_file")}
	}
	defer func() { _ = server.Close() }() // nothing is kept back in it
	seen, err := server.Inspect(ctx, e.deps.Clock)
	if err != nil {
		return []Finding{redisFailed(name, err)}
	}
	found := []Finding{redisVersion(seen)}
	latency := Finding{"store.redis.latency", OK, fmt.Sprintf("PING takes %s", seen.Latency.Round(10*time.Microsecond)), ""}
	if seen.Latency > slowRedis {
		latency.Status, latency.Advice = Warn, "every request of a signed-in person waits for it: move Redis nearer"
	}
	found = append(found, latency)
	made, err := e.madeUp()
	if err == nil {
		err = store.Rehearse(ctx, server, made)
	}
	if err != nil {
		found = append(found, redisFailed("store.redis.rights", err))
	} else {
		found = append(found, Finding{"store.redis.rights", OK, "everything that is needed is allowed below the prefix " + cfg.Redis.Prefix, ""})
	}
	for _, text := range seen.Advice {
		detail, advice, _ := strings.Cut(text, "; ")
		found = append(found, Finding{"store.redis.settings", Warn, detail, advice})
	}
	if len(seen.Advice) == 0 && seen.Version != "" {
		found = append(found, Finding{"store.redis.settings", OK, "no setting that could be read loses sessions or links", ""})
	}
	return found
}

// slowRedis is the PING from which people notice: a request takes a few.
const slowRedis = 10 * time.Millisecond

func redisVersion(seen store.Inspection) Finding {
	f := Finding{"store.redis", OK, seen.Version, ""}
	switch {
	case seen.Version == "":
		f.Detail = "answers; INFO is forbidden, so version and settings are not verified"
		f.Status = Info
	case seen.Old:
		f.Status, f.Advice = Fail, "use Redis 6.2 or later, or Valkey"
	}
	if seen.Nodes > 1 {
		f.Detail += fmt.Sprintf(", %d masters", seen.Nodes)
	}
	return f
}

func redisFailed(name string, err error) Finding {
	switch code := store.Refusal(err); code {
	case "":
	case "NOAUTH", "WRONGPASS":
		return Finding{name, Fail, "Redis refuses username or password", "compare store.redis.username and password with the ACL (or requirepass) of Redis"}
	case "NOPERM":
		return Finding{name, Fail, "Redis does not allow this user to " + firstStep(err), "allow it in the ACL, for keys and channels that begin with store.redis.prefix: see docs/redis.md"}
	case "MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT":
		return Finding{name, Fail, "Redis answers " + code, "it is a node of a Cluster: set store.redis.cluster: true, and look at the Cluster's state"}
	case "READONLY", "MASTERDOWN":
		return Finding{name, Fail, "Redis answers " + code, "it is a replica: name the master, or the Sentinels and store.redis.sentinel_master"}
	default:
		return Finding{name, Fail, "Redis answers " + code, "look at the log of Redis"}
	}
	f := unreachable(name, err, "store.redis.tls.ca_file")
	if f.Advice == "" {
		f.Detail, f.Advice = "does not answer like Redis", "correct host and port, and store.redis.tls"
	}
	return f
}

// firstStep is the step of the rehearsal that an error names.
func firstStep(err error) string {
	step, _, _ := strings.Cut(err.Error(), ":")
	return step
}
