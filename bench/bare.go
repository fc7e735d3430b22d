//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

const roleBare = "bare"

// serveBare is the yardstick beside nginx: what net/http does with nothing on
// top. /plain is answered from memory, /mallocs is runtime.MemStats.Mallocs,
// everything else is for a ReverseProxy that is tuned (pooled buffers, enough idle connections) and looks at nothing. The
// distance from here is ours; the distance from here to nginx is Go's.
//
// The first line of in is the upstream's address; it serves until in ends.
func serveBare(in io.Reader, out io.Writer) error {
	var address string
	if _, err := fmt.Fscanln(in, &address); err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0)
	}()
	fmt.Fprintln(out, listener.Addr())
	proxy := &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: address}) },
		Transport:  &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true},
		BufferPool: &pooledBuffers{},
	}
	plain := []byte(plainBody)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		default:
			proxy.ServeHTTP(w, r)
		case "/plain":
			w.Header()["Content-Type"] = []string{"application/json"}
			_, _ = w.Write(plain)
		case "/mallocs":
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			fmt.Fprint(w, stats.Mallocs)
		}
	})}
	return server.Serve(listener)
}

func (l *lab) bareMallocs(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.bare.address.String()+"/mallocs", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	var mallocs float64
	_, err = fmt.Fscan(answer.Body, &mallocs)
	return mallocs, err
}

// plainBody is as long as a sign-in's answer, about.
var plainBody = `{"filler":"` + strings.Repeat("x", 480) + `"}`

type pooledBuffers struct{ pool sync.Pool }

func (b *pooledBuffers) Get() []byte {
	if array, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return array[:]
	}
	return make([]byte, 32<<10)
}

func (b *pooledBuffers) Put(buffer []byte) { b.pool.Put((*[32 << 10]byte)(buffer)) }
