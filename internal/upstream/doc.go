// Package upstream is everything whisp-bff says to the two servers behind it:
// Whisp, and the customer's app.
//
//   - [Endpoint] is Whisp as a network peer: connection pools, timeouts per
//     phase, circuit breaker, and raw HTTP/1.1 connections for WebSockets.
//   - [Whisp] is our own client. It alone holds the API keys.
//   - [WhispProxy] carries the browser's REST calls: an allow-list of the
//     documented routes, of headers, and of answers. No request of it ever
//     carries an API key, so even a route that slipped through could do no more
//     than the browser could do by itself.
//   - [App] carries everything else to the customer's app, byte for byte,
//     except for the headers and cookies that would let a browser lie to the
//     app or let the app take over our session.
//   - [WhispHeader], [BalancerCookies] and [CanonicalPath] are the rules that
//     the socket proxy shares with WhispProxy.
//
// # What is repeated, and what never is
//
// A call of ours is repeated at most twice, with full jitter, when repeating
// cannot do harm: see [Whisp]. A proxied call is never repeated (getMessages
// marks messages as read), with one exception: refresh, because any failed
// refresh logs the user out of the vendor's SDK.
//
// # API keys
//
// The most preferred key that Whisp accepts is used. One that it refuses is set
// aside for key_retry, then probed once by whoever comes first, and used again
// if it is good. [Whisp.SetKeys] replaces the list at run time. At sign-in Whisp
// answers a revoked key like a wrong password: withKey explains why that
// never gives anybody a second account. Logs and metrics name positions in the
// list, never keys.
//
// # What this package does not do
//
// It does not know sessions or identities: the caller has checked them. It does
// not verify Whisp's JWTs (HS256 with the vendor's secret) and reads only their
// exp and sub. It does not look at the environment: no HTTP_PROXY is honoured,
// because a variable that somebody set for apt would then see every token.
// Request smuggling (CL with TE, obs-fold, duplicate Host) is the listener's
// matter; here each request is written anew by net/http from its parsed form.
//
// A ReverseProxy answer that breaks off half way ends in
// panic(http.ErrAbortHandler), as in net/http/httputil: recovering middleware
// must let that one pass.
package upstream
