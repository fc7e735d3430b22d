package server

import (
	"errors"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/session"
)

// sessionsPage is how many sessions one answer shows.
const sessionsPage = 100

// adminSessions shows who is signed in, and signs people out.
//
//	GET    /admin/sessions?issuer=&subject=[&after=]    a page of a person's sessions
//	DELETE /admin/sessions?issuer=&subject=             ends everything of theirs
//	DELETE /admin/sessions?issuer=&subject=&handle=     ends one session
//
// Nothing here is a credential: a handle names a session in this API only.
type adminSessions struct{ site *Site }

func (a adminSessions) register(api *adminAPI) {
	api.endpoint("/admin/sessions", map[string]func(*adminCall) error{http.MethodGet: a.list, http.MethodDelete: a.end})
}

// sessionJSON is a session as callers see it.
type sessionJSON struct {
	Handle string `json:"handle"`
	// Source is always "session": other sources' sign-ins are not ours to list.
	Source  string    `json:"source"`
	Created time.Time `json:"created"`
	// Expires is the absolute end; an idle session ends sooner.
	Expires time.Time `json:"expires"`
	// Lingering: the person has signed in again in the same browser, and it is
	// about to end.
	Lingering bool `json:"lingering"`
}

type sessionsJSON struct {
	Sessions []sessionJSON `json:"sessions"`
	// Devices is how many browsers and programs hold Whisp tokens for the person by
	// another source than our login.
	Devices int `json:"devices"`
	// Next, if there is more, is the after of the next page.
	Next string `json:"next,omitempty"`
}

func (a adminSessions) list(c *adminCall) error {
	id, err := identityInQuery(c.r, "after")
	if err != nil {
		return err
	}
	ctx := c.r.Context()
	page, next, err := a.site.parts.Sessions.List(ctx, session.OfIdentity(id), c.r.URL.Query().Get("after"), sessionsPage)
	if err != nil {
		return err
	}
	devices, err := a.site.devicesOf(ctx, id)
	if err != nil {
		return err
	}
	answer := sessionsJSON{Sessions: make([]sessionJSON, len(page)), Devices: len(devices), Next: next}
	for i, entry := range page {
		answer.Sessions[i] = sessionJSON{entry.Handle, identity.SourceSession, entry.Created.UTC(), entry.Expires.UTC(), entry.Lingers}
	}
	return c.write(http.StatusOK, answer)
}

// endedJSON is what was alive and has ended.
type endedJSON struct {
	Sessions int `json:"sessions"`
	Devices  int `json:"devices"`
}

// end answers the same whether there was anything to end or not. It can be
// repeated after a failure.
func (a adminSessions) end(c *adminCall) error {
	id, err := identityInQuery(c.r, "handle")
	if err != nil {
		return err
	}
	var ended endedJSON
	ctx, query := c.r.Context(), c.r.URL.Query()
	switch handle := query.Get("handle"); {
	case handle != "":
		ended.Sessions, err = a.site.parts.Sessions.EndOne(ctx, session.OfIdentity(id), handle, a.site.endHeld)
	case query.Has("handle"): // of a script whose variable was empty
		err = problem.IdentityInvalid().Because(errors.New("handle is empty"))
	default:
		ended.Sessions, ended.Devices, err = a.site.endPerson(ctx, id)
	}
	if err != nil {
		return err
	}
	a.site.deps.Logger.InfoContext(ctx, "signed out by an administrator",
		"identity", id.Key()[:12], "sessions", ended.Sessions, "devices", ended.Devices)
	return c.write(http.StatusOK, ended)
}
