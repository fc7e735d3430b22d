package session

import (
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Config is the section "session" of the configuration.
type Config struct {
	// Idle ends a session that nobody used for that long; 1m to Absolute.
	Idle setting.Duration `yaml:"idle" doc:"A session nobody used for this long ends; 1m up to absolute."`
	// Absolute ends every session that long after its login; up to 90d.
	Absolute setting.Duration `yaml:"absolute" doc:"Every session ends this long after its login, used or not; up to 90d."`
}

// DefaultConfig: half an hour idle, half a day in all.
func DefaultConfig() Config {
	return Config{Idle: setting.Duration(30 * time.Minute), Absolute: setting.Duration(12 * time.Hour)}
}

// Validate reports everything wrong with c.
func (c Config) Validate() error {
	var p setting.Problems
	if c.Absolute.D() < time.Minute || c.Absolute.D() > 90*24*time.Hour {
		p.Add("absolute", "is out of range", "write a duration from 1m to 90d, such as 12h")
	}
	if c.Idle.D() < time.Minute || c.Idle > c.Absolute {
		p.Add("idle", "is out of range", "write a duration from 1m up to session.absolute, such as 30m")
	}
	return p.Err()
}
