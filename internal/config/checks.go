package config

import (
	"maps"
	"slices"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// checks are those that no section can make alone: each looks at settings of
// several, or at the top level.
var checks = []func(*File, *setting.Problems){
	publicURLIsSafe,
	appIsNotOurselves,
	secretsDiffer,
	certificatesAreAsked,
}

// publicURLIsSafe: cookies with the prefix __Host- exist only over https; on
// loopback nobody listens in, and the cookie goes without the prefix.
func publicURLIsSafe(f *File, p *setting.Problems) {
	switch u := f.PublicURL; {
	case u.Empty():
		p.Add("public_url", "is required", "write the address that browsers use, like https://app.example.com")
	case u.Scheme != "https" && !u.Loopback():
		p.Add("public_url", "is plain http", "use https; http is for localhost only, since anyone on the way could take the session")
	case u.Path != "" && u.Path != "/":
		p.Add("public_url", "has a path", "write scheme and host only: whisp-bff serves a whole origin")
	}
}

// appIsNotOurselves: every request for the app would come back to us.
func appIsNotOurselves(f *File, p *setting.Problems) {
	if !f.App.URL.Empty() && f.App.URL.Origin() == f.PublicURL.Origin() {
		p.Add("app.url", "is the same as public_url", "write the address at which the app itself listens, like http://127.0.0.1:3000")
	}
}

// secretsDiffer: the master secret derives the accounts' passwords for ever.
// One that doubles as a credential for somebody else is known to them.
func secretsDiffer(f *File, p *setting.Problems) {
	others := map[string]setting.Secret{"login.client_secret": f.Login.ClientSecret}
	for i, key := range f.Whisp.APIKeys {
		others[element("whisp.api_keys", i)] = key
	}
	for i, master := range f.Account.MasterSecrets {
		for _, path := range slices.Sorted(maps.Keys(others)) {
			other := others[path]
			if !master.Text().Empty() && master.Text().Equal(other.Text()) {
				p.Add(element("account.master_secrets", i), "is the same as "+path, "make one of its own, such as the output of: openssl rand -base64 48")
			}
		}
	}
}

// certificatesAreAsked: only a listener that asks for client certificates could
// verify one, and none of ours does.
func certificatesAreAsked(f *File, p *setting.Problems) {
	if f.Identity.Uses(identity.SourceForwarded) && len(f.Identity.Forwarded.ClientCertificates) > 0 {
		p.Add("identity.forwarded.client_certificates", "cannot be checked", "this version's listener asks for no client certificates: use secrets")
	}
}
