package upstream

import "net/http"

// toWhisp lists the request headers that may go to Whisp. Single says that a
// second value makes the header ambiguous: then none of them is sent.
//
// Missing on purpose: Cookie (see [BalancerCookies]); X-Api-Key; Forwarded and
// X-Forwarded-*; Connection, Upgrade, Te, Trailer and Expect;
// X-Http-Method-Override; Referer, which can hold a ticket; and Origin: Whisp's
// server then sees a client that is not a browser (the vendor's own SDK under
// Node is one) and applies no cross-origin rule of its own. Origins are checked
// here, before anything is forwarded.
var toWhisp = []struct {
	name   string
	single bool
}{
	{"Authorization", true},
	{"Accept", false},
	{"Accept-Encoding", false},
	{"Accept-Language", false},
	{"Content-Type", true},
	{"Content-Length", true},
	{"User-Agent", true},
	{"Traceparent", true},
	{"Tracestate", false},
}

// WhispHeader returns a new header set with those request headers that may go
// to Whisp, an allow-list. The values are shared with in: do not change them in
// place. Cookies are added by the caller from [BalancerCookies.ToWhisp].
func WhispHeader(in http.Header) http.Header {
	out := make(http.Header, len(toWhisp))
	for _, header := range toWhisp {
		values := in[header.name]
		if len(values) == 0 || header.single && len(values) != 1 {
			continue
		}
		out[header.name] = values[:len(values):len(values)]
	}
	return out
}
