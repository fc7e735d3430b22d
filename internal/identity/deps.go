package identity

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Deps are what sources need besides their configuration.
type Deps struct {
	Logger *slog.Logger
	Clock  func() time.Time
	Rand   io.Reader
	// Metrics is where a source registers what it counts. One that is built again
	// goes on with its predecessor's counts.
	Metrics prometheus.Registerer
	// Transport is used for every call a source makes; nil: the source builds
	// one of its own, with its own connections.
	Transport http.RoundTripper
}

// register returns c, or what is registered in its place already.
func register[C prometheus.Collector](registerer prometheus.Registerer, c C) C {
	err := registerer.Register(c)
	if err == nil {
		return c
	}
	if taken, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if before, ok := taken.ExistingCollector.(C); ok {
			return before
		}
	}
	panic(err) // two metrics of one name: a mistake in the source
}
