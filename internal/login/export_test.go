package login

import (
	"net/http"
	"testing"
)

// OwnTransport lets tests close the connections of the transport that New would make.
func OwnTransport(t *testing.T, cfg Config) *http.Transport {
	t.Helper()
	transport, err := newTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return transport
}
