package upstream

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// kilobyte answers like an app that serves 1 KiB, without a network.
func kilobyte() roundTrip {
	body := bytes.Repeat([]byte("x"), 1024)
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: 1024,
			Header: http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"1024"}, "Date": {"x"}},
			Body:   io.NopCloser(bytes.NewReader(body)),
		}, nil
	}
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func browserGet() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/assets/app.js", nil)
	r.Header = http.Header{
		"Accept": {"*/*"}, "Accept-Encoding": {"gzip, br"}, "Accept-Language": {"de"}, "User-Agent": {"bench"},
		"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"cors"}, "Referer": {"https://app.example.com/"},
		"Cookie": {"theme=dark; __Host-whisp-session=0123456789012345678901234567890123456789012"},
	}
	return r
}

func benchApp(b *testing.B, base string) *App {
	b.Helper()
	cfg := DefaultAppConfig()
	cfg.URL = setting.MustURL(base)
	app, err := NewApp(cfg, AppDeps{
		Logger: slog.New(slog.DiscardHandler), PublicURL: setting.MustURL("https://app.example.com"),
		ClientAddress: func(*http.Request) string { return "203.0.113.9" }, Fail: fail,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(app.Close)
	return app
}

// bareProxy is the least that net/http/httputil can be asked for.
func bareProxy(base string) *httputil.ReverseProxy {
	target, err := url.Parse(base)
	if err != nil {
		panic(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:    func(pr *httputil.ProxyRequest) { pr.SetURL(target); pr.SetXForwarded() },
		BufferPool: &bufferPool{},
		Transport:  &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true},
	}
}

// BenchmarkAppProxy measures the proxy layer alone, beside a bare ReverseProxy.
func BenchmarkAppProxy(b *testing.B) {
	app := benchApp(b, "http://app.test")
	app.proxy.Transport = kilobyte()
	bare := bareProxy("http://app.test")
	bare.Transport = kilobyte()
	for name, handler := range map[string]http.Handler{"app": app, "bare": bare} {
		b.Run(name, func(b *testing.B) {
			request := browserGet()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(&discard{http.Header{}}, request)
			}
		})
	}
}

// BenchmarkAppProxyLoopback measures it between a real client and a real app,
// all three in this process.
func BenchmarkAppProxyLoopback(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1024)
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	defer back.Close()
	bare := bareProxy(back.URL)
	defer bare.Transport.(*http.Transport).CloseIdleConnections()
	for name, handler := range map[string]http.Handler{"app": benchApp(b, back.URL), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			front := httptest.NewServer(handler)
			defer front.Close()
			transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
			defer transport.CloseIdleConnections()
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					request, _ := http.NewRequest(http.MethodGet, front.URL+"/assets/app.js", nil)
					request.Header = browserGet().Header
					response, err := transport.RoundTrip(request)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			})
		})
	}
}
