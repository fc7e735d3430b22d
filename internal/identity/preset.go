package identity

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const (
	presetCloudflare  = "cloudflare_access"
	presetIAP         = "google_iap"
	presetALB         = "aws_alb"
	presetEasyAuth    = "azure_easy_auth"
	presetOAuth2Proxy = "oauth2_proxy"
)

// preset is what is known about a product. Everything it fills in can be
// overridden, except for aws_alb's keys, which have a form of their own.
type preset struct {
	// own is the key that only this preset has; empty if it needs none.
	own   string
	apply func(*BearerConfig)
}

// presets by name. Where each fact is documented stands in docs/identity/bearer.md.
var presets = map[string]preset{
	presetCloudflare: {own: "team_domain", apply: func(c *BearerConfig) {
		c.fill("Cf-Access-Jwt-Assertion", "RS256")
		if team := teamDomain(c.TeamDomain); team != "" {
			c.Issuer = cmp.Or(c.Issuer, "https://"+team)
			c.keysAt("https://" + team + "/cdn-cgi/access/certs")
		}
	}},
	presetIAP: {apply: func(c *BearerConfig) {
		c.fill("X-Goog-Iap-Jwt-Assertion", "ES256")
		c.Issuer = cmp.Or(c.Issuer, "https://cloud.google.com/iap")
		c.keysAt("https://www.gstatic.com/iap/verify/public_key-jwk")
	}},
	presetALB: {own: "load_balancers", apply: func(c *BearerConfig) {
		c.fill("X-Amzn-Oidc-Data", "ES256")
	}},
	presetEasyAuth: {own: "tenant", apply: func(c *BearerConfig) {
		c.fill("X-Ms-Token-Aad-Id-Token", "RS256")
		if tenantID.MatchString(c.Tenant) {
			c.Issuer = cmp.Or(c.Issuer, "https://login.microsoftonline.com/"+c.Tenant+"/v2.0")
		}
	}},
	presetOAuth2Proxy: {apply: func(c *BearerConfig) {
		c.fill("X-Forwarded-Access-Token")
	}},
}

func presetNames() []string { return slices.Sorted(maps.Keys(presets)) }

// fill sets location and algorithms that were left open.
func (c *BearerConfig) fill(header string, algorithms ...string) {
	if c.Header == "" && c.Cookie == "" {
		c.Header = header
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = algorithms
	}
}

// keysAt sets where the keys are, unless the configuration has its own.
func (c *BearerConfig) keysAt(address string) {
	if c.JWKSURL.Empty() && len(c.PublicKeys)+len(c.PublicKeyPEMs)+len(c.HMACSecrets) == 0 {
		var at setting.URL
		if at.UnmarshalText([]byte(address)) == nil {
			c.JWKSURL = at
		}
	}
}

var (
	teamName = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`)
	tenantID = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	// albARN: arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/name/id
	albARN = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):elasticloadbalancing:([a-z]{2}-(?:[a-z]{2,8}-){1,3}[0-9]):[0-9]{12}:loadbalancer/app/[A-Za-z0-9-]{1,32}/[0-9a-f]{1,32}$`)
)

// teamDomain accepts the team's name alone, too. It is empty for what is neither.
func teamDomain(text string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(text, "https://"), ".cloudflareaccess.com")
	if !teamName.MatchString(name) {
		return ""
	}
	return name + ".cloudflareaccess.com"
}

// validatePresetKeys checks the keys that belong to one preset only.
func (c BearerConfig) validatePresetKeys(problems *setting.Problems) {
	for _, own := range []struct {
		key   string
		given bool
	}{{"team_domain", c.TeamDomain != ""}, {"load_balancers", len(c.LoadBalancers) > 0}, {"tenant", c.Tenant != ""}} {
		if own.given && presets[c.Preset].own != own.key {
			problems.Add(own.key, "belongs to another preset", "remove it, or set preset")
		}
	}
	switch c.Preset {
	case presetCloudflare:
		if teamDomain(c.TeamDomain) == "" {
			problems.Add("team_domain", "is required", "write the team's domain, like acme.cloudflareaccess.com")
		}
	case presetEasyAuth:
		if !tenantID.MatchString(c.Tenant) {
			problems.Add("tenant", "is required", "write the directory (tenant) id, a GUID in lower case; common and organizations have no issuer of their own")
		}
	case presetALB:
		c.validateALB(problems)
	}
}

func (c BearerConfig) validateALB(problems *setting.Problems) {
	if len(c.LoadBalancers) == 0 {
		problems.Add("load_balancers", "is required", "write the ARN of each load balancer, like arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188")
	}
	for i, arn := range c.LoadBalancers {
		if !albARN.MatchString(arn) {
			problems.Add(element("load_balancers", i), "is not the ARN of an application load balancer", "copy it from the load balancer's page")
		} else if albKeys(arn) != albKeys(c.LoadBalancers[0]) {
			problems.Add(element("load_balancers", i), "is in another region than the first", "list another entry for it")
		}
	}
	if !c.JWKSURL.Empty() || len(c.PublicKeys)+len(c.PublicKeyPEMs)+len(c.HMACSecrets) > 0 {
		problems.Add("preset", "has its own way to find keys", "remove jwks_url and the keys")
	}
	if c.AnyAudience {
		problems.Add("any_audience", "does not go with aws_alb", "list the client ids in audience")
	}
}

// albKeys is the address, less the key id, at which the region of a load
// balancer publishes its keys.
func albKeys(arn string) string {
	parts := albARN.FindStringSubmatch(arn)
	if parts == nil {
		return ""
	}
	partition, region := parts[1], parts[2]
	switch partition {
	case "aws-us-gov":
		return "https://s3-" + region + ".amazonaws.com/aws-elb-public-keys-prod-" + region + "/"
	case "aws-cn":
		return "https://public-keys.auth.elb." + region + ".amazonaws.com.cn/"
	}
	return "https://public-keys.auth.elb." + region + ".amazonaws.com/"
}
