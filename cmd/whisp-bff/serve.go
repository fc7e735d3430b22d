package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/server"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/sockproxy"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/telemetry"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

const defaultConfigFile = "/etc/whisp-bff/config.yaml"

func newServe() *cobra.Command {
	var file string
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Serve (the default)",
		Long: `Serve until SIGTERM or SIGINT. Then: not ready, sockets closed spread over
realtime.drain, requests finished, exit 0. A second signal ends it at once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, file)
			if err != nil {
				return err
			}
			return run(cmd.Context(), cfg, telemetry.NewLogger(cfg.Log, os.Stderr))
		},
	}
	configFlag(serve, &file)
	return serve
}

func newValidate() *cobra.Command {
	var file string
	validate := &cobra.Command{
		Use:   "validate",
		Short: "Read the configuration, report every mistake in it, and exit",
		Long: `Read the configuration as serve would, secrets included, and report every
mistake with its line and the fix. Nothing is connected to. Exit 0 or 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := load(cmd, file); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", file)
			return nil
		},
	}
	configFlag(validate, &file)
	return validate
}

func configFlag(cmd *cobra.Command, file *string) {
	path := defaultConfigFile
	if fromEnv := os.Getenv("WHISP_BFF_CONFIG"); fromEnv != "" {
		path = fromEnv
	}
	cmd.Flags().StringVarP(file, "config", "c", path, "configuration file (or WHISP_BFF_CONFIG)")
}

// load reads the configuration. Mistakes are printed whole, not as one line.
func load(cmd *cobra.Command, file string) (*config.File, error) {
	cfg, err := config.Load(file, os.LookupEnv, config.Disk)
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil, errReported
	}
	if warnings := cfg.Warnings(); len(warnings) > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), warnings)
	}
	return cfg, nil
}

// run builds the parts, hands them to each other, and serves until ctx ends.
func run(ctx context.Context, cfg *config.File, logger *slog.Logger) error {
	clock := time.Now
	registry := telemetry.NewRegistry(telemetry.ReadVersion(version))

	// One store each, so that none can push another's values out.
	var (
		sessionStore = store.NewMemory(cfg.Store, clock)
		grantStore   = store.NewMemory(cfg.Store, clock) // grants and links
		onceStore    = store.NewMemory(cfg.Store, clock) // used login states
	)

	var stateKeys, masters []secret.Text
	for _, master := range cfg.Account.MasterSecrets {
		key, err := broker.DeriveKey(master.Text(), "login state")
		if err != nil {
			return err
		}
		masters, stateKeys = append(masters, master.Text()), append(stateKeys, key)
	}
	credentials, err := broker.NewCredentials(masters)
	if err != nil {
		return err
	}
	mapping, err := broker.NewMapping(cfg.Account)
	if err != nil {
		return err
	}

	provider, err := login.New(cfg.Login, login.Deps{
		Logger: logger, Clock: clock, Rand: rand.Reader, PublicURL: cfg.PublicURL, StateKeys: stateKeys, Once: onceStore,
	})
	if err != nil {
		return err
	}
	sessions := session.New(cfg.Session, session.Deps{
		Store: sessionStore, Clock: clock, Logger: logger, Provider: refresher{provider}, PublicURL: cfg.PublicURL,
	})

	endpoint, err := upstream.NewEndpoint(cfg.Whisp)
	if err != nil {
		return err
	}
	defer endpoint.Close()
	whispDeps := upstream.WhispDeps{
		Endpoint: endpoint, Logger: logger, Clock: clock, Rand: rand.Reader,
		Metrics: upstream.NewMetrics(registry, endpoint),
	}
	whisp, err := upstream.NewWhisp(cfg.Whisp, whispDeps)
	if err != nil {
		return err
	}
	accounts := broker.New(broker.Deps{
		Accounts: whisp, Tokens: whisp, Store: grantStore, Sessions: sessions,
		Credentials: credentials, Mapping: mapping, Clock: clock, Logger: logger, Metrics: registry,
	})

	balancerCookies := upstream.NewBalancerCookies(cfg.PublicURL, clock)
	realtime, err := sockproxy.New(cfg.Realtime, sockproxy.Deps{
		Logger: logger, Clock: clock, Rand: rand.Reader, Metrics: registry, PublicURL: cfg.PublicURL,
		Whisp: cfg.Whisp.URL, Dialer: endpoint, Transport: endpoint.RealtimeTransport(),
		Header: upstream.WhispHeader, Cookies: balancerCookies,
		Sessions: toucher{sessions}, Fail: server.Fail,
	})
	if err != nil {
		return err
	}
	rest := upstream.NewWhispProxy(cfg.Whisp, upstream.WhispProxyDeps{
		WhispDeps: whispDeps, Cookies: balancerCookies, Fail: server.Fail,
		Events: upstream.Events{TicketIssued: realtime.TicketIssued, Passed: passed(accounts, logger)},
	})
	clientAddress, err := server.ClientAddress(cfg.Server)
	if err != nil {
		return err
	}
	app, err := upstream.NewApp(cfg.App, upstream.AppDeps{
		Logger: logger, PublicURL: cfg.PublicURL, ClientAddress: clientAddress,
		OwnCookies: []string{session.CookieName, session.LoopbackCookieName}, Fail: server.Fail,
	})
	if err != nil {
		return err
	}

	whispBFF, err := server.New(cfg.Server, server.Deps{
		PublicURL: cfg.PublicURL, PostLogoutPath: cfg.Login.PostLogoutPath,
		DurableLinks: grantStore.Durable(), DrainTime: cfg.Realtime.Drain.D(), AccessLog: cfg.Log.AccessLog,
		Clock: clock, Logger: logger, Metrics: registry,
	}, server.Parts{
		Login: provider, Sessions: sessions, Broker: accounts, WhispREST: rest, Realtime: realtime, App: app,
	})
	if err != nil {
		return err
	}
	public, admin, err := whispBFF.Listen(ctx)
	if err != nil {
		return err
	}
	return whispBFF.Run(ctx, public, admin)
}

// passed keeps the broker's grants true to what browsers do at Whisp themselves.
func passed(accounts *broker.Broker, logger *slog.Logger) func(session, operation string, status int) {
	return func(session, operation string, status int) {
		if status < http.StatusOK || status >= http.StatusMultipleChoices {
			return
		}
		var err error
		switch operation {
		case upstream.OperationLogout, upstream.OperationLogoutAll:
			err = accounts.Forget(context.Background(), session)
		case upstream.OperationDeleteUser:
			err = accounts.ForgetAccount(context.Background(), session)
		}
		if err != nil {
			logger.Warn("grant not forgotten", "operation", operation, "error", err)
		}
	}
}

// refresher tells sessions in their own words that a sign-in ended.
type refresher struct{ *login.RelyingParty }

func (r refresher) Refresh(ctx context.Context, tokens identity.ProviderTokens, subject string) (identity.ProviderTokens, error) {
	renewed, err := r.RelyingParty.Refresh(ctx, tokens, subject)
	if errors.Is(err, login.ErrEnded) {
		return identity.ProviderTokens{}, fmt.Errorf("%w: %w", session.ErrNone, err)
	}
	return renewed, err
}

// toucher tells sockets in their own words that a session ended.
type toucher struct{ *session.Sessions }

func (t toucher) Touch(ctx context.Context, key string) (time.Time, error) {
	expires, err := t.Sessions.Touch(ctx, key)
	if errors.Is(err, session.ErrNone) {
		return time.Time{}, sockproxy.ErrSessionEnded
	}
	return expires, err
}
