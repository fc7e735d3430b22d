package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/whisp-bff/whisp-bff/cmd/whisp-demo/web"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// people one can be; the provider and the app both know them.
var people = []web.Person{
	{Username: "alice", Name: "Alice Anderson"},
	{Username: "bob", Name: "Bob Brown"},
	{Username: "carol", Name: "Carol Clark"},
	{Username: "dave", Name: "Dave Dubois"},
}

// stack is everything around whisp-bff, running, and the file that tells
// whisp-bff about it.
type stack struct {
	settings   settings
	publicURL  string
	adminURL   string
	configFile string
	failed     chan error // a server that ended by itself

	dir       string
	servers   []*http.Server
	simulator *whispsim.Server
}

// newStack starts provider, simulator and app on free ports, and picks two for
// whisp-bff. The caller closes it.
func newStack(opts options) (*stack, error) {
	s := &stack{failed: make(chan error, 3)}
	if err := s.build(opts); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stack) build(opts options) error {
	publicPort, adminPort, err := freePorts(opts.port)
	if err != nil {
		return err
	}
	// The page is on localhost and the provider on 127.0.0.1: two hosts, so
	// that neither gets the other's cookies, which ignore ports.
	s.publicURL = fmt.Sprintf("http://localhost:%d", publicPort)
	s.adminURL = fmt.Sprintf("http://127.0.0.1:%d", adminPort)
	s.settings = settings{
		PublicURL:    s.publicURL,
		Listen:       fmt.Sprintf("127.0.0.1:%d", publicPort),
		AdminListen:  fmt.Sprintf("127.0.0.1:%d", adminPort),
		ClientID:     "web",
		ClientSecret: randomSecret(),
		APIKey:       randomSecret(),
		MasterSecret: randomSecret(),
		Verbose:      opts.verbose,
	}
	if err := s.startApp(); err != nil {
		return fmt.Errorf("app: %w", err)
	}
	if err := s.startProvider(); err != nil {
		return fmt.Errorf("provider: %w", err)
	}
	if err := s.startSimulator(opts); err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	s.dir, err = os.MkdirTemp("", "whisp-demo-")
	if err != nil {
		return err
	}
	s.configFile, err = s.settings.write(s.dir)
	return err
}

func (s *stack) startApp() error {
	app, err := web.Handler(people)
	if err != nil {
		return err
	}
	s.settings.AppURL, err = s.serve(func(string) (http.Handler, error) { return app, nil })
	return err
}

func (s *stack) startProvider() error {
	provider, err := oidcsim.New(oidcsim.Config{
		Clients: []oidcsim.Client{{
			ID:                     s.settings.ClientID,
			Secret:                 s.settings.ClientSecret,
			RedirectURIs:           []string{s.publicURL + "/auth/callback"},
			PostLogoutRedirectURIs: []string{s.publicURL, s.publicURL + "/"},
		}},
		People:              demoPeople(),
		RefreshWithoutScope: true,
		Clock:               time.Now,
		Rand:                rand.Reader,
	})
	if err != nil {
		return err
	}
	s.settings.Issuer, err = s.serve(func(url string) (http.Handler, error) { return provider, provider.SetIssuer(url) })
	return err
}

func (s *stack) startSimulator(opts options) error {
	s.simulator = whispsim.New(whispsim.Config{
		APIKeys: []secret.Text{s.settings.APIKey},
		JWTLife: opts.jwtLife.Truncate(time.Second),
	})
	var err error
	s.settings.WhispURL, err = s.serve(func(string) (http.Handler, error) { return s.simulator, nil })
	return err
}

// serve listens on a free loopback port and serves what handler returns for
// the URL it got.
func (s *stack) serve(handler func(url string) (http.Handler, error)) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	url := "http://" + listener.Addr().String()
	h, err := handler(url)
	if err != nil {
		_ = listener.Close()
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
	return url, nil
}

// close stops the servers and removes the files. Errors have nobody to tell:
// everything is gone with the process anyway.
func (s *stack) close() {
	if s.simulator != nil {
		s.simulator.Close()
	}
	for _, server := range s.servers {
		_ = server.Close()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// demoPeople are those of the provider's people the app knows.
func demoPeople() []oidcsim.Person {
	var known []oidcsim.Person
	for _, candidate := range oidcsim.People() {
		for _, person := range people {
			if person.Username == candidate.ID {
				known = append(known, candidate)
			}
		}
	}
	return known
}

// freePorts returns two ports nobody listens on now, the first of them public
// if that is not 0. They are closed again, so another process might take one
// before whisp-bff does; then whisp-bff says so and the demo ends.
func freePorts(public int) (int, int, error) {
	first, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", public))
	if err != nil {
		return 0, 0, fmt.Errorf("public port: %w", err)
	}
	defer func() { _ = first.Close() }()
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, fmt.Errorf("admin port: %w", err)
	}
	defer func() { _ = second.Close() }()
	return portOf(first), portOf(second), nil
}

func portOf(listener net.Listener) int {
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		panic("a TCP listener has a TCP address")
	}
	return address.Port
}

func randomSecret() secret.Text { return secret.New(rand.Text() + rand.Text()) }
