package store_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

func TestConfigReportsEveryProblem(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*store.Config)
		want   []string
	}{
		"default": {func(*store.Config) {}, nil},
		"single": {func(c *store.Config) {
			*c = redisConfig("p:", "redis:6379")
			c.Redis.Username, c.Redis.Password = "whisp", setting.SecretValue("pw")
			c.Redis.TLS = store.RedisTLSConfig{Enabled: true, CAFile: "ca.pem"}
		}, nil},
		"sentinel": {func(c *store.Config) {
			*c = redisConfig("p:", "a:1", "b:2", "[::1]:3")
			c.Redis.SentinelMaster, c.Redis.SentinelPassword = "m", setting.SecretValue("pw")
		}, nil},
		"cluster":             {func(c *store.Config) { *c = redisConfig("p:", "a:1", "b:2"); c.Redis.Cluster = true }, nil},
		"kind":                {func(c *store.Config) { c.Kind = "etcd" }, []string{"kind"}},
		"forgotten kind":      {func(c *store.Config) { c.Redis.Addresses = []string{"redis:6379"} }, []string{"redis.addresses"}},
		"nothing but kind":    {func(c *store.Config) { c.Kind = store.KindRedis }, []string{"redis.addresses", "seal_keys"}},
		"a URL":               {func(c *store.Config) { *c = redisConfig("p:", "redis://redis:6379") }, []string{"redis.addresses[0]"}},
		"several, of no kind": {func(c *store.Config) { *c = redisConfig("p:", "a:1", "b:2") }, []string{"redis.addresses"}},
		"keys": {func(c *store.Config) {
			*c = redisConfig("p:", "redis:6379")
			c.SealKeys = append(c.SealKeys, setting.SecretValue("short"), sealKey)
		}, []string{"seal_keys[1]", "seal_keys[2]"}},
		"everything at once": {func(c *store.Config) {
			*c = redisConfig("{p}", "redis", "redis:0")
			c.MaxEntries = 1
			c.SealKeys = slices.Repeat([]setting.Secret{setting.SecretValue("x")}, 9)
			c.Redis.Cluster, c.Redis.SentinelMaster, c.Redis.DB = true, "m", -1
			c.Redis.Username = "whisp"
			c.Redis.TLS.CAFile = "ca.pem"
			c.Redis.Timeout, c.Redis.PoolSize = setting.Duration(time.Minute), -1
		}, append(append([]string{"max_entries", "seal_keys"},
			"seal_keys[0]", "seal_keys[1]", "seal_keys[2]", "seal_keys[3]", "seal_keys[4]", "seal_keys[5]", "seal_keys[6]", "seal_keys[7]", "seal_keys[8]"),
			"redis.addresses[0]", "redis.addresses[1]", "redis.sentinel_master", "redis.db", "redis.password", "redis.tls.ca_file", "redis.prefix", "redis.timeout", "redis.pool_size")},
		"sentinel password alone": {func(c *store.Config) {
			*c = redisConfig("p:", "redis:6379")
			c.Redis.SentinelPassword = setting.SecretValue("pw")
		}, []string{"redis.sentinel_username"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := store.DefaultConfig()
			test.change(&cfg)
			err := cfg.Validate()
			var got []string
			for _, problem := range setting.List(err) {
				got = append(got, problem.Path)
				if problem.Fix == "" {
					t.Errorf("%s has no fix", problem.Path)
				}
			}
			slices.Sort(got)
			slices.Sort(test.want)
			// db is wrong twice there: negative, and not 0 in a Cluster.
			if got = slices.Compact(got); !slices.Equal(got, test.want) {
				t.Errorf("problems with %s, want %s", got, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "kkkk") {
				t.Error("a key is shown")
			}
		})
	}
}
