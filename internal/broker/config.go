package broker

import (
	"fmt"

	"github.com/whisp-bff/whisp-bff/internal/claimtext"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// OnConflict says what happens when the mapped user name belongs to somebody
// else's account.
type OnConflict string

const (
	// Suffix appends a short hash of issuer and subject, the same everywhere.
	Suffix OnConflict = "suffix"
	// Fail refuses the sign-in with account_conflict.
	Fail OnConflict = "fail"
)

// OnLost says what happens when a linked account refuses its credential although
// the API key is good, and no refresh token of it is left that could tell why:
// renamed or deleted behind our back.
type OnLost string

const (
	// LostFails refuses the sign-in with account_lost until an administrator
	// releases the link: a second account is worse than none.
	LostFails OnLost = "fail"
	// LostRegisters takes it for deleted and makes a new account.
	LostRegisters OnLost = "register"
)

// Permission is allow or deny.
type Permission string

const (
	// Allow lets browsers do it.
	Allow Permission = "allow"
	// Deny answers 403 route_forbidden.
	Deny Permission = "deny"
)

// SelfService is the section "account.self_service": what browsers may do to
// their own accounts through the proxy.
type SelfService struct {
	ChangeUsername Permission `yaml:"change_username" doc:"Whether people may rename their own account: allow or deny. Without a durable store it is refused in any case, since a renamed account could not be found again after a restart."`
	DeleteUser     Permission `yaml:"delete_user" doc:"Whether people may delete their own account: allow or deny."`
}

// Exposure says what of a grant the browser gets to see.
type Exposure string

// Direct hands the browser the JWT and the real refresh token: the flow of the
// vendor's own guide.
const Direct Exposure = "direct"

// AccountConfig is the section "account" of the configuration.
type AccountConfig struct {
	Username      []string         `yaml:"username" doc:"Go templates over the identity's claims; the first that gives 3 to 50 usable characters is the Whisp user name, which colleagues see. Functions: lower, upper, trim, localpart. Claims are data, never executed."`
	Email         []string         `yaml:"email" doc:"Go templates for the account's e-mail address; the first that gives a valid address wins. If none does, or the address belongs to another account, a unique address under email_domain is used."`
	EmailDomain   string           `yaml:"email_domain" doc:"Domain of the addresses made up for people without a usable one. The default can never receive mail (RFC 2606)."`
	FirstName     []string         `yaml:"first_name" doc:"Go templates for the first name; may come out empty."`
	SurName       []string         `yaml:"sur_name" doc:"Go templates for the surname; may come out empty."`
	OnConflict    OnConflict       `yaml:"on_conflict" doc:"When the user name belongs to another account: suffix (append a short hash of the identity, the same everywhere) or fail."`
	MasterSecrets []setting.Secret `yaml:"master_secrets" doc:"Secrets of at least 32 bytes from which every account's Whisp password is derived, newest first. Keep old ones listed: accounts made with them need them for ever. Losing them loses the accounts."`
	OnLost        OnLost           `yaml:"on_lost" doc:"When an account was renamed or deleted behind whisp-bff's back and nothing tells which: fail (account_lost, until an administrator releases it) or register (a new account, perhaps a second one)."`
	ProfileSync   bool             `yaml:"profile_sync" doc:"Rename the account at Whisp when the mapped user name has changed at the provider. Needs a durable store."`
	SelfService   SelfService      `yaml:"self_service" doc:"What people may do to their own accounts."`
}

// TokenConfig is the section "tokens" of the configuration.
type TokenConfig struct {
	Exposure Exposure `yaml:"exposure" doc:"What the browser gets to see. direct: the JWT and the real refresh token, as in the vendor's guide."`
}

// DefaultAccountConfig maps the claims of OpenID Connect Core 1.0 section 5.1.
// It has no master secret: there is no safe default for one.
func DefaultAccountConfig() AccountConfig {
	return AccountConfig{
		Username:    []string{"{{.preferred_username}}", "{{.nickname}}", "{{.name}}", "{{localpart .email}}"},
		Email:       []string{"{{.email}}"},
		EmailDomain: "users.invalid",
		FirstName:   []string{"{{.given_name}}"},
		SurName:     []string{"{{.family_name}}"},
		OnConflict:  Suffix,
		OnLost:      LostFails,
		SelfService: SelfService{ChangeUsername: Allow, DeleteUser: Allow},
	}
}

// DefaultTokenConfig is direct exposure.
func DefaultTokenConfig() TokenConfig { return TokenConfig{Exposure: Direct} }

// minMasterSecret is 256 bits, the strength of the HKDF hash.
const minMasterSecret = 32

// Validate reports everything wrong with c.
func (c AccountConfig) Validate() error {
	var p setting.Problems
	for name, chain := range map[string][]string{"username": c.Username, "email": c.Email, "first_name": c.FirstName, "sur_name": c.SurName} {
		for i, text := range chain {
			if _, err := claimtext.Parse(name, text); err != nil {
				p.Add(fmt.Sprintf("%s[%d]", name, i), "is not a Go template", "write it like {{.preferred_username}}; the parser says: "+err.Error())
			}
		}
	}
	if c.OnConflict != Suffix && c.OnConflict != Fail {
		p.Add("on_conflict", "is not a known choice", "write suffix or fail")
	}
	if c.OnLost != LostFails && c.OnLost != LostRegisters {
		p.Add("on_lost", "is not a known choice", "write fail or register")
	}
	for _, permission := range []struct {
		path  string
		value Permission
	}{{"self_service.change_username", c.SelfService.ChangeUsername}, {"self_service.delete_user", c.SelfService.DeleteUser}} {
		if permission.value != Allow && permission.value != Deny {
			p.Add(permission.path, "is not a known choice", "write allow or deny")
		}
	}
	if !validAddress("x@" + c.EmailDomain) {
		p.Add("email_domain", "is not a domain", "write it like users.invalid")
	}
	if len(c.MasterSecrets) == 0 {
		p.Add("master_secrets", "is required", "list at least one secret of 32 bytes or more, such as the output of: openssl rand -base64 48")
	}
	for i, s := range c.MasterSecrets {
		if length := len(s.Text().Reveal()); s.Given() && length > 0 && length < minMasterSecret {
			p.Addf(fmt.Sprintf("master_secrets[%d]", i), "is too short", "it has %d bytes; use at least %d, such as the output of: openssl rand -base64 48", length, minMasterSecret)
		}
	}
	return p.Err()
}

// Validate reports everything wrong with c.
func (c TokenConfig) Validate() error {
	var p setting.Problems
	if c.Exposure != Direct {
		p.Add("exposure", "is not a known choice", "write direct")
	}
	return p.Err()
}
