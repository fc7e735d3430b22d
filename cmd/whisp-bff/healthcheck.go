package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/server"
)

// healthOptions are the flags of healthcheck.
type healthOptions struct {
	config, url string
	ready       bool
	timeout     time.Duration
}

func newHealthcheck() *cobra.Command {
	var options healthOptions
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running server whether it is well, for containers without a shell",
		Long: `Ask the running server's admin listener for /healthz, or with --ready for /readyz.
Exit 0 if the answer is 200, else 1 with one line on standard error.

/healthz says that the process lives: restart it if not. /readyz says that people
may be sent to it; while the identity provider is down at start, or during a
shutdown, they may not, and a restart would not help.

Of the configuration only server.admin_listen is read, and not even that has to be
there: whether the file as a whole is good or bad says nothing about a server that
runs with an older one.`,
		Example: `  whisp-bff healthcheck
  whisp-bff healthcheck --ready --timeout 1s

  In a Dockerfile:
  HEALTHCHECK CMD ["/whisp-bff", "healthcheck"]

  In a compose file, to start other services once people can log in:
  healthcheck: {test: ["CMD", "/whisp-bff", "healthcheck", "--ready"], interval: 5s}`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := options.address()
			if err != nil {
				return err
			}
			return askHealth(cmd.Context(), address, options.timeout)
		},
	}
	configFlag(cmd, &options.config)
	flags := cmd.Flags()
	flags.StringVar(&options.url, "url", "", "ask this `URL` instead, and read no configuration")
	flags.BoolVar(&options.ready, "ready", false, "ask /readyz instead of /healthz")
	flags.DurationVar(&options.timeout, "timeout", 3*time.Second, "longest time to wait for the answer")
	return cmd
}

// address is what to ask.
func (o healthOptions) address() (string, error) {
	if o.url != "" {
		if u, err := url.Parse(o.url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return "", errors.New("--url is not an http or https URL")
		}
		return o.url, nil
	}
	listen, ok := config.Lookup(o.config, config.Disk, "server", "admin_listen")
	if !ok {
		listen = server.DefaultConfig().AdminListen
	}
	base, err := adminBase(listen)
	if err != nil {
		return "", err
	}
	if o.ready {
		return base + "/readyz", nil
	}
	return base + "/healthz", nil
}

// adminBase is the URL at which this machine reaches a listener; one on every
// interface is asked on loopback.
func adminBase(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	switch {
	case err != nil || port == "":
		return "", errors.New("server.admin_listen is not host:port")
	case port == "0":
		return "", errors.New("server.admin_listen has port 0, which is any free one: give --url")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// askHealth wants 200. It uses no proxy and follows no redirect. Its errors name
// no more of the address than its host and path.
func askHealth(ctx context.Context, address string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("--url is not an http or https URL")
	}
	asked := request.URL.Host + request.URL.Path
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s does not answer within %s", asked, timeout)
	case err != nil:
		return fmt.Errorf("%s cannot be asked: %w", asked, err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", asked, strings.ToLower(response.Status))
	}
	return nil
}
