// Package config reads the YAML configuration file into the Config of each
// part of whisp-bff. It is the only place that reads files or the environment
// on behalf of a setting.
//
// [Load] fills a [File] in five steps: each part's own defaults; the YAML, on
// top and strictly; secrets, from wherever they are kept; each part's
// Validate; and checks that span several parts. Steps do not stop at the first
// mistake. All problems come back at once, each with file, line, column, the
// offending line and what to write instead:
//
//	config.yaml:7:3: login.clientid is not a known key: did you mean client_id?
//	   7 |   clientid: web
//	     |   ^
//
// # What the file may contain
//
// One YAML document of at most 1 MiB in UTF-8, made of mappings, lists and
// scalars. Anchors, aliases, merge keys and tags are refused: they turn a small
// file into a large one and a value into something the eye does not see. A key
// may stand only once, must be known, and must have a value; "key:" alone is a
// mistake, not "take the default". A list replaces the default list as a
// whole. Durations and sizes carry their unit.
//
// Nothing is expanded. "${NAME}" inside any value is an error, because half of
// the tools would expand it and half would not, and a literal "${SECRET}" as a
// password is found only when the login fails.
//
// # Secrets
//
// A secret is a mapping with exactly one of three keys:
//
//	client_secret: {file: /run/secrets/oidc-client-secret}
//	client_secret: {env: OIDC_CLIENT_SECRET}
//	client_secret: {value: only-for-demos}
//
// One line break at the end of a file is dropped; a relative file name starts
// at the directory of the configuration file. Well-known placeholders such as
// "changeme" are refused. Nothing this package returns, errors included, shows
// a secret: the value of an unknown key is masked too, since it may be a secret
// under a misspelt name. What it cannot know is a secret written into a key
// that is not for secrets.
//
// # Describing the configuration
//
// The types are the single source: yaml tags name the keys, doc tags explain
// them, DefaultConfig holds the defaults. [Describe] walks them for the
// rest: [WriteExample] writes config.example.yaml, [WriteReference] docs/configuration.md
// and [WriteSchema] config.schema.json, for editors. The words that a key can have
// and the ranges of numbers are listed in choices.go, and held against Validate.
package config
