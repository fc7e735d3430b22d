package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	// maxBatch is how many identities one call may bring.
	maxBatch = 1000
	// batchConcurrency is how many of them are with Whisp at a time.
	batchConcurrency = 8
	// batchMisses: so many failures of Whisp in a row, without a success between
	// them, and the rest is not tried.
	batchMisses = 3
)

// accountKeeper is what the admin API does with accounts: [broker.Broker].
type accountKeeper interface {
	Ensure(ctx context.Context, id identity.Identity) (broker.Account, error)
	Find(ctx context.Context, id identity.Identity) (broker.Account, bool, error)
	Release(ctx context.Context, id identity.Identity) error
	Preview(id identity.Identity) broker.Profile
}

// adminAccounts pre-registers people: a chat can only be started with somebody
// who exists.
//
//	POST   /admin/accounts          one identity, or {"accounts": […]}; idempotent
//	GET    /admin/accounts?issuer=&subject=
//	DELETE /admin/accounts?issuer=&subject=   drops the link, not the account
//	POST   /admin/accounts/preview  what an identity would be registered as
type adminAccounts struct {
	keeper   accountKeeper
	draining func() bool
}

func (a adminAccounts) register(api *adminAPI) {
	api.endpoint("/admin/accounts", map[string]func(*adminCall) error{
		http.MethodPost: a.ensure, http.MethodGet: a.find, http.MethodDelete: a.release,
	})
	api.endpoint("/admin/accounts/preview", map[string]func(*adminCall) error{http.MethodPost: a.preview})
}

// identityJSON is a person as the caller knows them.
type identityJSON struct {
	Issuer  string                     `json:"issuer"`
	Subject string                     `json:"subject"`
	Claims  map[string]json.RawMessage `json:"claims"`
}

// identity returns the problem identity_invalid if it is none.
func (i identityJSON) identity() (identity.Identity, []string, error) {
	id, dropped, err := identity.Listed(i.Issuer, i.Subject, i.Claims)
	if err != nil {
		return identity.Identity{}, nil, problem.IdentityInvalid().Because(err)
	}
	return id, dropped, nil
}

// accountJSON is an account as callers see it.
type accountJSON struct {
	UserID   string `json:"userId"`
	Username string `json:"username"`
	Created  *bool  `json:"created,omitempty"`
}

func accountOf(account broker.Account) accountJSON {
	return accountJSON{account.UserID, account.Username, &account.Created}
}

func (a adminAccounts) ensure(c *adminCall) error {
	var body struct {
		identityJSON

		Accounts []identityJSON `json:"accounts"`
	}
	if err := c.read(&body); err != nil {
		return err
	}
	one := body.Issuer != "" || body.Subject != "" || body.Claims != nil
	switch {
	case one && body.Accounts != nil:
		return problem.BodyInvalid().Because(errors.New("both one identity and a list"))
	case len(body.Accounts) > maxBatch:
		return problem.BodyTooLarge().Because(fmt.Errorf("%d identities", len(body.Accounts)))
	case body.Accounts != nil:
		return a.ensureAll(c, body.Accounts)
	}
	id, _, err := body.identity()
	if err != nil {
		return err
	}
	account, err := a.keeper.Ensure(c.r.Context(), id)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if account.Created {
		status = http.StatusCreated
	}
	return c.write(status, accountOf(account))
}

// find asks the store only: who is not linked may have an account all the same,
// if the store is not durable.
func (a adminAccounts) find(c *adminCall) error {
	id, err := identityInQuery(c.r, "")
	if err != nil {
		return err
	}
	account, ok, err := a.keeper.Find(c.r.Context(), id)
	if err != nil {
		return err
	}
	if !ok {
		return problem.AccountUnknown()
	}
	return c.write(http.StatusOK, accountJSON{UserID: account.UserID, Username: account.Username})
}

// release answers 204 whether there was a link or not.
func (a adminAccounts) release(c *adminCall) error {
	id, err := identityInQuery(c.r, "")
	if err != nil {
		return err
	}
	if err := a.keeper.Release(c.r.Context(), id); err != nil {
		return err
	}
	c.Header().Set("Cache-Control", "no-store")
	c.WriteHeader(http.StatusNoContent)
	return nil
}

// identityInQuery wants issuer and subject, and allows one name more.
func identityInQuery(r *http.Request, more string) (identity.Identity, error) {
	query := r.URL.Query()
	for name, values := range query {
		if (name != "issuer" && name != "subject" && (more == "" || name != more)) || len(values) != 1 {
			return identity.Identity{}, problem.IdentityInvalid().Because(errors.New("the query takes nothing but what is documented, once each"))
		}
	}
	id, _, err := identityJSON{Issuer: query.Get("issuer"), Subject: query.Get("subject")}.identity()
	return id, err
}

// previewJSON is what would be tried, in this order.
type previewJSON struct {
	Usernames []string `json:"usernames"`
	Emails    []string `json:"emails"`
	FirstName string   `json:"firstName"`
	SurName   string   `json:"surName"`
	// DroppedClaims were too large to be used.
	DroppedClaims []string `json:"droppedClaims,omitempty"`
}

func (a adminAccounts) preview(c *adminCall) error {
	var body identityJSON
	if err := c.read(&body); err != nil {
		return err
	}
	id, dropped, err := body.identity()
	if err != nil {
		return err
	}
	p := a.keeper.Preview(id)
	emails := []string{p.Email}
	if p.FallbackEmail != p.Email {
		emails = append(emails, p.FallbackEmail)
	}
	return c.write(http.StatusOK, previewJSON{p.Usernames, emails, p.FirstName, p.SurName, dropped})
}

// batchJSON answers a list: an item for each identity, in the same order.
type batchJSON struct {
	Accounts []itemJSON `json:"accounts"`
	Created  int        `json:"created"`
	Existing int        `json:"existing"`
	Failed   int        `json:"failed"`
	// Stopped: Whisp or the store is down, and identities were left out; each of
	// those has the error that stopped it. Send the list again.
	Stopped bool `json:"stopped"`
}

type itemJSON struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	*accountJSON

	Error *errorJSON `json:"error,omitempty"`
}

type errorJSON struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (a adminAccounts) ensureAll(c *adminCall, list []identityJSON) error {
	b := &batch{keeper: a.keeper, draining: a.draining, list: list, items: make([]itemJSON, len(list))}
	b.run(c.r.Context())
	if err := c.r.Context().Err(); err != nil {
		return err // nobody is left to tell; what was made is found again
	}
	answer := batchJSON{Accounts: b.items, Stopped: b.stopped != nil}
	for i := range b.items {
		item := &b.items[i]
		if item.accountJSON == nil && item.Error == nil {
			item.fail(b.list[i], b.stopped)
		}
		switch {
		case item.Error != nil:
			answer.Failed++
		case *item.Created:
			answer.Created++
		default:
			answer.Existing++
		}
	}
	if b.stopped != nil {
		if answer.Created+answer.Existing == 0 {
			return b.stopped
		}
		if b.stopped.RetryAfter > 0 {
			c.Header().Set("Retry-After", strconv.Itoa(int((b.stopped.RetryAfter+time.Second-1)/time.Second)))
		}
	}
	return c.write(http.StatusOK, answer)
}

// batch is one list on its way. Each item is written by the one worker that took
// it.
type batch struct {
	keeper   accountKeeper
	draining func() bool
	list     []identityJSON
	items    []itemJSON

	mu      sync.Mutex
	next    int
	misses  int
	stopped *problem.Problem // why the rest is not tried
}

func (b *batch) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range min(batchConcurrency, len(b.list)) {
		workers.Go(func() {
			for i, ok := b.take(ctx); ok; i, ok = b.take(ctx) {
				b.one(ctx, i)
			}
		})
	}
	workers.Wait()
}

// take returns the next item, or false if there is none or it is not to be tried.
func (b *batch) take(ctx context.Context) (int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped == nil && b.draining() {
		b.stopped = problem.ShuttingDown()
	}
	if b.stopped != nil || b.next == len(b.list) || ctx.Err() != nil {
		return 0, false
	}
	b.next++
	return b.next - 1, true
}

func (b *batch) one(ctx context.Context, i int) {
	id, _, err := b.list[i].identity()
	if err != nil {
		b.items[i].fail(b.list[i], problem.From(err))
		return
	}
	account, err := b.keeper.Ensure(ctx, id)
	if err != nil {
		p := problem.From(err)
		b.items[i].fail(b.list[i], p)
		b.missed(p)
		return
	}
	made := accountOf(account)
	b.items[i] = itemJSON{Issuer: id.Issuer, Subject: id.Subject, accountJSON: &made}
	b.mu.Lock()
	b.misses = 0
	b.mu.Unlock()
}

// missed stops the batch when the fault is not the item's.
func (b *batch) missed(p *problem.Problem) {
	if p.Status != http.StatusServiceUnavailable {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.misses++
	mayBeTheItem := p.RetryAfter == 0 && (p.Code == problem.WhispFailed().Code || p.Code == problem.WhispTimeout().Code)
	if b.stopped == nil && (!mayBeTheItem || b.misses >= batchMisses) {
		b.stopped = p
	}
}

func (i *itemJSON) fail(of identityJSON, p *problem.Problem) {
	*i = itemJSON{Issuer: of.Issuer, Subject: of.Subject, Error: &errorJSON{p.Code, p.Message}}
}
