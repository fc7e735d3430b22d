package oidcsim

import (
	"embed"
	"html/template"
	"net/http"
	"net/url"
)

//go:embed page.html
var pageFile embed.FS

// pageTemplate is parsed once; it is immutable.
var pageTemplate = template.Must(template.ParseFS(pageFile, "page.html"))

// page is what page.html shows: a list of people, or a message, or a question.
type page struct {
	Nonce   string // of the style element
	Title   string
	Message string
	Post    string // where the form goes; empty: no form

	People  []shownPerson
	Request string // the authorization request, as it came

	Confirm url.Values // a logout request to be confirmed
}

type shownPerson struct {
	ID, Name, Detail, Initials string
	Hue                        int // of the avatar, in degrees
	Disabled                   bool
}

func (p *Provider) loginPage(w http.ResponseWriter, request authorization, rawQuery string) {
	host := ""
	if u, err := url.Parse(request.redirectURI); err == nil {
		host = u.Host
	}
	view := page{
		Title:   "Demo identity provider",
		Message: "Who do you want to be at " + host + "?",
		Request: rawQuery,
	}
	p.mu.Lock()
	view.Post = p.base + string(login)
	for i, person := range p.people {
		view.People = append(view.People, shownPerson{
			ID: person.ID, Name: person.Name(), Detail: person.Detail(), Initials: person.Initials(),
			Hue: (212 + i*67) % 360, Disabled: p.disabled[person.ID],
		})
	}
	p.mu.Unlock()
	p.render(w, http.StatusOK, view)
}

func (p *Provider) logoutPage(w http.ResponseWriter, form url.Values) {
	p.mu.Lock()
	post := p.base + string(EndSession)
	p.mu.Unlock()
	form.Set("confirmed", "1")
	p.render(w, http.StatusOK, page{Title: "Sign out?", Message: "An application asks to sign you out here.", Post: post, Confirm: form})
}

func (p *Provider) errorPage(w http.ResponseWriter, status int, message string) {
	p.messagePage(w, status, "That did not work", message)
}

func (p *Provider) messagePage(w http.ResponseWriter, status int, title, message string) {
	p.render(w, status, page{Title: title, Message: message})
}

func (p *Provider) render(w http.ResponseWriter, status int, view page) {
	view.Nonce = p.random()
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	// No form-action: browsers apply it to the redirect back to the application too.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+view.Nonce+"'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, view) // a browser that left is no error of ours
}
