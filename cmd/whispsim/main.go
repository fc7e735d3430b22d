// Command whispsim runs the Whisp simulator on a port of its own, for trying a
// frontend or whisp-bff without an account at Whisp. What it simulates, and how
// to make it fail, is told in internal/whispsim/README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// keyVariable holds an API key for those who keep them off command lines.
const keyVariable = "WHISPSIM_API_KEY"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand(os.Getenv, nil).ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	listen, control string
	keys, users     []string
	verbose         bool
	sim             whispsim.Config
}

// newCommand builds the command. started, if set, is told the two addresses
// once both listen.
func newCommand(env func(string) string, started func(whisp, control string)) *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:   "whispsim",
		Short: "The Whisp chat API, simulated",
		Long: `whispsim serves the whole Whisp API, REST and realtime (STOMP over WebSocket and
SockJS), from memory. It is strict, and fails on demand through its control
address, which must stay on loopback: whoever reaches it may do anything.

Everything is forgotten when it ends.`,
		Example: `  whispsim --api-key key-1 --user 'alice:SecureP@ss123' --user 'bob1:SecureP@ss123'
  WHISPSIM_API_KEY=key-1 whispsim --listen 127.0.0.1:8090 --jwt-life 5s
  curl -X POST -H 'Content-Type: application/json' http://127.0.0.1:8091/faults \
       -d '{"operation":"refreshToken","status":503,"times":2}'`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if key := env(keyVariable); key != "" {
				o.keys = append(o.keys, key)
			}
			return run(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr(), started)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8090", "`address` of the simulated Whisp")
	flags.StringVar(&o.control, "control", "127.0.0.1:8091", "`address` of the control API; empty for none")
	flags.StringArrayVar(&o.keys, "api-key", nil, "valid API `key`, may be repeated (also from "+keyVariable+")")
	flags.StringArrayVar(&o.users, "user", nil, "`name:password` of a user that exists from the start, may be repeated")
	flags.DurationVar(&o.sim.JWTLife, "jwt-life", 5*time.Minute, "life of a JWT, whole seconds")
	flags.DurationVar(&o.sim.TicketLife, "ticket-life", 20*time.Second, "life of a realtime ticket")
	flags.BoolVar(&o.sim.BareJWT, "bare-jwt", false, `send the Authorization header without "Bearer "`)
	flags.BoolVar(&o.sim.LaxPasswords, "lax-passwords", false, "accept any password of 8 bytes and more")
	flags.StringVar(&o.sim.Node, "node", "", "`name` told in the header X-Sim-Node")
	flags.StringVar(&o.sim.BalancerCookie, "balancer-cookie", "", "`name` of a load balancer's cookie to set, such as AWSALB")
	flags.BoolVar(&o.sim.Bench, "bench", false, "serve GET /bench/1k and record no requests")
	flags.BoolVar(&o.verbose, "verbose", false, "log what is refused, to standard error")
	return command
}

// run serves until ctx ends.
func run(ctx context.Context, o options, out, problems io.Writer, started func(whisp, control string)) error {
	for _, key := range o.keys {
		o.sim.APIKeys = append(o.sim.APIKeys, secret.New(key))
	}
	if len(o.sim.APIKeys) == 0 {
		return errors.New("no API key: give --api-key or set " + keyVariable)
	}
	if o.verbose {
		o.sim.Logger = slog.New(slog.NewTextHandler(problems, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	sim := whispsim.New(o.sim)
	defer sim.Close()
	for _, entry := range o.users {
		name, password, found := strings.Cut(entry, ":")
		if !found {
			return errors.New("--user: want name:password")
		}
		if _, err := sim.TryAddUser(name, name+"@example.com", secret.New(password)); err != nil {
			return fmt.Errorf("--user: %w", err)
		}
	}
	whisp, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen for Whisp: %w", err)
	}
	servers := []*http.Server{serverFor(sim)}
	listeners := []net.Listener{whisp}
	_, _ = fmt.Fprintf(out, "Whisp   http://%s\n", whisp.Addr())
	if o.control != "" {
		control, err := net.Listen("tcp", o.control)
		if err != nil {
			_ = whisp.Close()
			return fmt.Errorf("listen for control: %w", err)
		}
		servers, listeners = append(servers, serverFor(sim.Control())), append(listeners, control)
		_, _ = fmt.Fprintf(out, "control http://%s\n", control.Addr())
	}
	if started != nil {
		control := ""
		if len(listeners) > 1 {
			control = listeners[1].Addr().String()
		}
		started(whisp.Addr().String(), control)
	}
	return serve(ctx, sim, servers, listeners)
}

func serverFor(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
}

// serve returns when ctx ends or a listener fails, with everything closed.
func serve(ctx context.Context, sim *whispsim.Server, servers []*http.Server, listeners []net.Listener) error {
	failed := make(chan error, len(servers))
	var running sync.WaitGroup
	for i, server := range servers {
		running.Go(func() { failed <- server.Serve(listeners[i]) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	}
	sim.Close()
	for _, server := range servers {
		_ = server.Close()
	}
	running.Wait()
	return err
}
