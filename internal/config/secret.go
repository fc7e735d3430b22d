package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Open opens a file for reading: the configuration and the secrets it names.
// Names are the operating system's, so that absolute ones work.
type Open func(name string) (fs.File, error)

// Disk is the [Open] of the real file system.
func Disk(name string) (fs.File, error) {
	return os.Open(name) //nolint:gosec // the operator names the file
}

// sources are where secrets come from.
type sources struct {
	env  func(string) (string, bool)
	open Open
	dir  string // relative file names start here
	// files collects the secret files that were named, for a later reload.
	files *[]string
}

// maxSecretSize is far above any key, and below what a mistaken path reads in.
const maxSecretSize = 64 << 10

// secretForms is the fix for a secret in any other form.
const secretForms = "write {file: /run/secrets/name}, {env: NAME}, or {value: …} for a demo" //nolint:gosec // G101 sees the word secret

var sourceKeys = []string{"value", "env", "file"}

func isSource(key string) bool { return slices.Contains(sourceKeys, key) }

// secret fills a [setting.Secret] and resolves it. Apart from the names of
// environment variables and files nothing of the node is ever shown.
func (d *decoder) secret(n *node, v reflect.Value, path string) {
	if n.kind != mapping {
		d.hideSecret(n)
		d.report(*n, path, "is a secret written as "+n.noun(), secretForms)
		return
	}
	into := &setting.Secret{}
	before := len(d.problems)
	for _, e := range n.entries {
		d.places[below(path, e.name)] = node{line: e.line, column: e.column}
		d.source(e, into, path)
	}
	v.Set(reflect.ValueOf(*into)) // whatever follows: the section sees that a source is named
	if len(d.problems) > before {
		return
	}
	switch len(n.entries) {
	case 0:
		d.report(*n, path, "names no source", secretForms)
		return
	case 1:
	default:
		d.report(*n, path, "names more than one source", "keep exactly one of value, env and file")
		return
	}
	source := n.entries[0]
	value, problem, fix := d.resolve(source.value, *into, path)
	if problem == "" && isPlaceholder(value) {
		problem, fix = "is a well-known placeholder", "put a real secret there, such as the output of: openssl rand -base64 48"
	}
	if problem != "" {
		d.report(*source.value, path, problem, fix)
		return
	}
	into.Resolve(secret.New(value))
	v.Set(reflect.ValueOf(*into))
}

// source reads one of a secret's keys.
func (d *decoder) source(e entry, into *setting.Secret, path string) {
	at := node{line: e.line, column: e.column}
	if !isSource(e.name) {
		d.hideSecret(&node{kind: mapping, entries: []entry{e}})
		fix := "a secret has exactly one of value, env and file"
		if meant, ok := nearest(e.name, sourceKeys); ok {
			fix += "; did you mean " + meant + "?"
		}
		d.report(at, path, "has a key here that is not known", fix)
		return
	}
	if e.name == "value" || e.value.kind != scalar {
		d.hideSecret(e.value)
	}
	if e.value.kind != scalar || e.value.text == "" {
		if e.value.kind != broken {
			d.report(at, path, "has no "+e.name, "write a text after the colon")
		}
		return
	}
	if variable := expansion.FindString(e.value.text); variable != "" {
		fix := "write {env: NAME} instead"
		if name := strings.Trim(variable, "${}"); e.name != "value" {
			fix = "write the name out"
		} else if variable == e.value.text && variableName.MatchString(name) {
			fix = "write {env: " + name + "} instead"
			d.unhide(variable)
		}
		d.report(*e.value, path, "contains ${…}, which is not expanded", fix)
		return
	}
	switch e.name {
	case "value":
		into.Value = secret.New(e.value.text)
	case "env":
		into.Env = e.value.text
	case "file":
		into.File = e.value.text
	}
}

// unhide takes back that a text is a secret: it names one.
func (d *document) unhide(text string) {
	d.hidden = slices.DeleteFunc(d.hidden, func(hidden string) bool { return hidden == text })
	d.shown = append(d.shown, text)
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// resolve gets the value from its source, or says what is wrong with that.
func (d *decoder) resolve(at *node, s setting.Secret, path string) (value, problem, fix string) {
	switch {
	case s.Env != "":
		return d.fromEnv(s.Env)
	case s.File != "":
		return d.fromFile(at, s.File, path)
	}
	return s.Value.Reveal(), "", ""
}

func (d *decoder) fromEnv(name string) (value, problem, fix string) {
	if !variableName.MatchString(name) {
		return "", "is not the name of an environment variable", "write the name alone, like {env: OIDC_CLIENT_SECRET}"
	}
	value, set := d.sources.env(name)
	switch {
	case !set:
		return "", "names the environment variable " + name + ", which is not set", "set it, or use {file: …}"
	case value == "":
		return "", "names the environment variable " + name + ", which is empty", "set it, or use {file: …}"
	}
	return value, "", ""
}

func (d *decoder) fromFile(at *node, name, path string) (value, problem, fix string) {
	full := name
	if !filepath.IsAbs(full) {
		full = filepath.Join(d.sources.dir, full)
	}
	*d.sources.files = append(*d.sources.files, full)
	content, mode, err := readSecret(d.sources.open, full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", "names the file " + name + ", which does not exist", "create it, or correct the path"
	case errors.Is(err, fs.ErrPermission):
		return "", "names the file " + name + ", which may not be read", "give the user that runs whisp-bff read access"
	case err != nil:
		return "", "names the file " + name + ", which cannot be read", cause(err)
	}
	value = strings.TrimSuffix(content, "\n")
	value = strings.TrimSuffix(value, "\r")
	if value == "" {
		return "", "names the file " + name + ", which is empty", "write the secret into it"
	}
	if mode.Perm()&0o004 != 0 {
		d.warn(*at, path, "names the file "+name+", which every user of this machine can read", fmt.Sprintf("its mode is %04o; make it 0440 or 0400", mode.Perm()))
	}
	if strings.TrimFunc(value, unicode.IsSpace) != value {
		d.warn(*at, path, "names the file "+name+", whose content starts or ends with white space", "only one line break at the end is dropped; the rest counts as part of the secret")
	}
	return value, "", ""
}

// readSecret reads a file of bounded size.
func readSecret(open Open, name string) (string, fs.FileMode, error) {
	f, err := open(name)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	if info.IsDir() {
		return "", 0, errors.New("it is a directory")
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSecretSize+1))
	if err != nil {
		return "", 0, err
	}
	if len(content) > maxSecretSize {
		return "", 0, errors.New("it is larger than 64 KiB")
	}
	return string(content), info.Mode(), nil
}

// cause is an error without the path, which the message has already.
func cause(err error) string {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err
	}
	return err.Error()
}

// isPlaceholder knows the values that documentation and charts put where a
// secret belongs. Case, dashes, spaces and angle brackets do not matter.
func isPlaceholder(value string) bool {
	plain := strings.NewReplacer("-", "", "_", "", " ", "", ".", "", "!", "").Replace(strings.ToLower(value))
	plain = strings.TrimSuffix(strings.TrimPrefix(plain, "<"), ">")
	return slices.Contains(placeholders, plain)
}

var placeholders = []string{
	"apikey", "changeit", "changeme", "changethis", "clientsecret", "default", "dummy",
	"example", "examplesecret", "fixme", "insertsecrethere", "mysecret", "none", "null",
	"pass", "password", "placeholder", "redacted", "replace", "replaceme", "replacethis",
	"secret", "secretkey", "supersecret", "tbd", "test", "todo", "topsecret", "xxx", "xxxx",
	"yourapikey", "yourclientsecret", "yoursecret", "yoursecrethere",
}
