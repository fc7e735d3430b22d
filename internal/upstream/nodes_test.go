package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"testing"
)

func TestNodes(t *testing.T) {
	for _, test := range []struct {
		name, url string
		found     []netip.Addr
		want      []string
	}{
		{"several", "https://whisp.test", []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")}, []string{"[2001:db8::1]:443", "192.0.2.1:443"}},
		{"mapped", "http://whisp.test:8080/base", []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}, []string{"192.0.2.1:8080"}},
		{"none", "http://whisp.test", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			endpoint, err := NewEndpoint(whispConfig(test.url))
			if err != nil {
				t.Fatal(err)
			}
			defer endpoint.Close()
			endpoint.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
				if host != "whisp.test" {
					return nil, errors.New("asked for " + host)
				}
				return test.found, nil
			}
			got, err := endpoint.Nodes(t.Context())
			if !slices.Equal(got, test.want) || (err == nil) != (test.want != nil) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	endpoint, err := NewEndpoint(whispConfig("http://[::1]:8090"))
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	if got, err := endpoint.Nodes(t.Context()); err != nil || !slices.Equal(got, []string{"[::1]:8090"}) {
		t.Errorf("an address: %v, %v", got, err)
	}
}

// Whoever goes to a node by its address has its certificate checked for Whisp's name.
func TestNodesAreWhisp(t *testing.T) {
	server, ca := tlsWhisp(t) // its certificate is for example.com and 127.0.0.1
	address := server.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	for _, test := range []struct {
		host string
		good bool
	}{{"example.com", true}, {"whisp.test", false}} {
		t.Run(test.host, func(t *testing.T) {
			cfg := whispConfig("https://" + test.host + ":" + port)
			cfg.CAFile = ca
			endpoint, err := NewEndpoint(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer endpoint.Close()
			conn, err := endpoint.DialHTTP1(t.Context(), address)
			if (err == nil) != test.good {
				t.Errorf("a socket: %v", err)
			}
			if err == nil {
				_ = conn.Close()
			}
			request := (&http.Request{Method: http.MethodGet, Header: http.Header{}, URL: &url.URL{Scheme: "https", Host: address, Path: "/"}, Host: test.host}).WithContext(t.Context())
			response, err := endpoint.RealtimeTransport().RoundTrip(request)
			if (err == nil) != test.good {
				t.Errorf("SockJS: %v", err)
			}
			if err == nil {
				_ = response.Body.Close()
			}
		})
	}
}
