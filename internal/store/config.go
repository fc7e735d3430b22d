package store

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// The kinds of store.
const (
	KindMemory = "memory"
	KindRedis  = "redis"
)

// Config is the section "store" of the configuration.
type Config struct {
	Kind string `yaml:"kind" doc:"Where sessions, grants and links are kept: memory (one process; a restart forgets everything) or redis (any number of replicas)."`
	// MaxEntries bounds the embedded store; 1,000 to 10,000,000.
	MaxEntries int         `yaml:"max_entries" doc:"How many values the embedded memory store keeps before the least recently used one makes room; a signed-in browser takes about three. 1000 to 10000000."`
	Redis      RedisConfig `yaml:"redis" doc:"The Redis (6.2 or later, or Valkey) that kind: redis uses."`
	// SealKeys seal what lies in Redis.
	SealKeys []setting.Secret `yaml:"seal_keys" doc:"Keys that encrypt everything of value in Redis, newest first: the first seals, all open. At least 32 random bytes each, 1 to 8; required for kind: redis."`
}

// RedisConfig says how to reach Redis.
type RedisConfig struct {
	Addresses        []string       `yaml:"addresses" doc:"host:port of the server, of some nodes of the Cluster, or of the Sentinels."`
	SentinelMaster   string         `yaml:"sentinel_master" doc:"Name of the master that the Sentinels at addresses watch; empty when there are no Sentinels."`
	SentinelUsername string         `yaml:"sentinel_username" doc:"ACL user for the Sentinels themselves; empty for the default user."`
	SentinelPassword setting.Secret `yaml:"sentinel_password" doc:"Password for the Sentinels themselves; leave it out if they have none."`
	Cluster          bool           `yaml:"cluster" doc:"Whether addresses are nodes of a Redis Cluster."`
	Username         string         `yaml:"username" doc:"ACL user; empty for the default user."`
	Password         setting.Secret `yaml:"password" doc:"Password of the user; leave it out if there is none."`
	DB               int            `yaml:"db" doc:"Number of the database, 0 to 1023; a Cluster has only 0."`
	TLS              RedisTLSConfig `yaml:"tls" doc:"Encryption on the way to Redis."`
	Prefix           string         `yaml:"prefix" doc:"What every key and channel in Redis begins with: 1 to 64 letters, digits and :._- . Two installations that share a Redis need different ones."`
	// Timeout bounds one operation.
	Timeout setting.Duration `yaml:"timeout" doc:"The longest one operation may take, connecting and retries included; after it, requests that need a session get 503 store_unavailable. 50ms to 30s."`
	// ReadCache bounds how long a lost message goes unnoticed.
	ReadCache setting.Duration `yaml:"read_cache" doc:"How long a replica answers from a session that it read before it asks Redis again. What another replica changes is told by message at once; only a message that is lost is noticed this late. 0s (off), or 100ms to 10s."`
	PoolSize  int              `yaml:"pool_size" doc:"Connections per Redis node and replica of whisp-bff, 1 to 10000; 0 means 10 per CPU."`
}

// RedisTLSConfig is TLS towards Redis, at least version 1.2. Client
// certificates are not supported.
type RedisTLSConfig struct {
	Enabled bool   `yaml:"enabled" doc:"Whether to use TLS."`
	CAFile  string `yaml:"ca_file" doc:"PEM file with the certificate authorities to trust for Redis instead of the system's."`
}

// DefaultConfig fits a small container: 150,000 entries are about 50,000
// browsers.
func DefaultConfig() Config {
	return Config{
		Kind:       KindMemory,
		MaxEntries: 150_000,
		Redis:      RedisConfig{Prefix: "whisp-bff:", Timeout: setting.Duration(time.Second), ReadCache: setting.Duration(2 * time.Second)},
	}
}

// Validate reports everything wrong with c. Files are not read.
func (c Config) Validate() error {
	var p setting.Problems
	switch c.Kind {
	case KindMemory:
		if len(c.Redis.Addresses) > 0 {
			p.Add("redis.addresses", "is set, but kind is memory, which does not use it", "write kind: redis, or remove the addresses")
		}
	case KindRedis:
		if len(c.Redis.Addresses) == 0 {
			p.Add("redis.addresses", "is required for kind: redis", "write a list with one host:port, or several for Sentinel or a Cluster")
		}
		if len(c.SealKeys) == 0 {
			p.Add("seal_keys", "is required for kind: redis", "write one secret of 32 random bytes, made with: openssl rand -base64 32")
		}
	default:
		p.Add("kind", "is no kind of store", "write memory or redis")
	}
	if c.MaxEntries < 1000 || c.MaxEntries > 10_000_000 {
		p.Add("max_entries", "is out of range", "write a number from 1000 to 10000000")
	}
	c.validateSealKeys(&p)
	p.Include("redis", c.Redis.validate())
	return p.Err()
}

func (c Config) validateSealKeys(p *setting.Problems) {
	if len(c.SealKeys) > 8 {
		p.Add("seal_keys", "has too many keys", "keep at most 8; a key is needed for as long as something it sealed lives")
	}
	for i, key := range c.SealKeys {
		path := "seal_keys[" + strconv.Itoa(i) + "]"
		if length := len(key.Text().Reveal()); length < 32 {
			p.Addf(path, "is too short", "use at least 32 random bytes; this one has %d", length)
			continue
		}
		for j := range i {
			if key.Text().Equal(c.SealKeys[j].Text()) {
				p.Addf(path, "is the same as seal_keys["+strconv.Itoa(j)+"]", "remove one of them")
			}
		}
	}
}

func (c RedisConfig) validate() error {
	var p setting.Problems
	for i, address := range c.Addresses {
		host, port, err := net.SplitHostPort(address)
		number, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || portErr != nil || number == 0 {
			p.Add("addresses["+strconv.Itoa(i)+"]", "is not host:port", "write it like redis.internal:6379, without redis://")
		}
	}
	switch {
	case c.Cluster && c.SentinelMaster != "":
		p.Add("sentinel_master", "cannot go with cluster: true", "a Cluster fails over by itself; remove one of the two")
	case c.Cluster && c.DB != 0:
		p.Add("db", "must be 0 in a Cluster", "remove it; use prefix to keep installations apart")
	case !c.Cluster && c.SentinelMaster == "" && len(c.Addresses) > 1:
		p.Add("addresses", "has several entries", "write cluster: true or sentinel_master, or keep one address")
	}
	if c.SentinelMaster == "" && (c.SentinelUsername != "" || c.SentinelPassword.Given()) {
		p.Add("sentinel_username", "is set without sentinel_master", "write sentinel_master, or use username and password")
	}
	if c.DB < 0 || c.DB > 1023 {
		p.Add("db", "is out of range", "write a number from 0 to 1023")
	}
	if c.Username != "" && !c.Password.Given() {
		p.Add("password", "is required with username", "name its file or environment variable")
	}
	if c.TLS.CAFile != "" && !c.TLS.Enabled {
		p.Add("tls.ca_file", "is set, but tls.enabled is false", "write enabled: true, or remove ca_file")
	}
	if c.Prefix == "" || len(c.Prefix) > 64 || strings.Trim(c.Prefix, prefixAlphabet) != "" {
		p.Add("prefix", "is not 1 to 64 letters, digits and :._-", "write it like whisp-bff:")
	}
	if c.Timeout.D() < 50*time.Millisecond || c.Timeout.D() > 30*time.Second {
		p.Add("timeout", "is out of range", "write a duration from 50ms to 30s")
	}
	if c.ReadCache != 0 && (c.ReadCache.D() < 100*time.Millisecond || c.ReadCache.D() > 10*time.Second) {
		p.Add("read_cache", "is out of range", "write 0s for none, or a duration from 100ms to 10s")
	}
	if c.PoolSize < 0 || c.PoolSize > 10_000 {
		p.Add("pool_size", "is out of range", "write a number from 1 to 10000, or 0 for 10 per CPU")
	}
	return p.Err()
}

const prefixAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._-"
