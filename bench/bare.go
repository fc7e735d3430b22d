//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const roleBare = "bare"

// serveBare is the yardstick beside nginx: what net/http does with nothing on
// top. /plain is answered from memory, everything else by a ReverseProxy that is
// tuned (pooled buffers, enough idle connections) and looks at nothing. The
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
		if r.URL.Path != "/plain" {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = w.Write(plain)
	})}
	return server.Serve(listener)
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
